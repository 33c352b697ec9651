"""What an optimiser knows of the weights, between the shares that DeepSpeed's ZeRO keeps and the whole."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class OptimizerShares:
    """The state of the optimiser that DeepSpeed steps with on each rank's share of the weights.

    Args:
        zero: DeepSpeed's optimiser around the user's.
        stage: of ZeRO, 2 or 3.
        groups: the parameters of the user's groups, before ZeRO made them flat.
    """

    def __init__(self, zero: Any, stage: int, groups: Sequence[Sequence[nn.Parameter]]) -> None:
        self.zero, self.stage, self.groups = zero, stage, groups

    def whole(self) -> dict[str, Any]:
        """The whole state, as PyTorch writes it, on rank 0. All ranks must ask."""
        from deepspeed.utils import safe_get_full_optimizer_state

        self._link()
        flat, *_ = self._flat()
        own = self.zero.optimizer
        state: dict[int, dict[str, Any]] = {}
        for number, parameter in self._numbered():
            for name, value in own.state.get(flat, {}).items():
                is_share = torch.is_tensor(value) and value.shape == flat.shape
                kept = safe_get_full_optimizer_state(parameter, name) if is_share else copy.deepcopy(value)
                if torch.distributed.get_rank() == 0:
                    state.setdefault(number, {})[name] = kept.cpu() if torch.is_tensor(kept) else kept
        numbers = iter(number for number, _ in self._numbered())
        groups = [
            {**group, "params": [next(numbers) for _ in ours]}
            for group, ours in zip(own.param_groups, self.groups, strict=True)
        ]
        return {"state": state, "param_groups": groups}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Give each rank its share of a whole state, which every rank has."""
        own = self.zero.optimizer
        for group, kept in zip(own.param_groups, saved["param_groups"], strict=True):
            group |= {name: value for name, value in kept.items() if name != "params"}
        if not saved["state"]:
            return
        some = next(iter(saved["state"].values()))
        shared = {name: value for name, value in some.items() if not is_elementwise(value)}
        flats = self._flat()
        device = flats[0].device
        # A fused step counts where the weights are.
        counts = device if any(group.get("fused") for group in own.param_groups) else "cpu"
        for flat in flats:
            own.state[flat] = {
                name: value.to(counts, copy=True) if torch.is_tensor(value) else value
                for name, value in shared.items()
            } | {name: torch.zeros_like(flat) for name in some if name not in shared}
        self._link()
        for number, parameter in self._numbered():
            for name, value in saved["state"][number].items():
                if name not in shared:
                    self._set(parameter, name, value.to(device))

    def _link(self) -> None:
        """Let DeepSpeed find each weight's part of the state in the second stage.

        By itself it looks after the first group's first step, when the others have no state yet.
        """
        from deepspeed.utils.mixed_precision_linkage import lazy_init_hp_params_optimizer_state as link

        if self.stage == 2 and self.zero.optimizer.state:
            for group, flat in zip(self.zero.bit16_groups, self._flat(), strict=True):
                link(group, flat, self.zero.optimizer.state)

    def _set(self, parameter: nn.Parameter, name: str, value: Tensor) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        if self.stage == 2:
            safe_set_full_optimizer_state(parameter, value, name)
            return
        # DeepSpeed's own way cuts whole values short, where ranks do not share them out evenly.
        share: Any = parameter
        size = share.ds_tensor.numel()
        padded = value.new_zeros(size * torch.distributed.get_world_size())
        padded[: value.numel()] = value.flatten()
        own = padded[size * torch.distributed.get_rank() :][:size]
        safe_set_local_optimizer_state(parameter, own, name)

    def _flat(self) -> list[Tensor]:
        """This rank's shares, for which the optimiser steps."""
        flat: list[Tensor] = (
            self.zero.single_partition_of_fp32_groups
            if self.stage == 2
            else self.zero.fp32_partitioned_groups_flat
        )
        return flat

    def _numbered(self) -> Iterator[tuple[int, nn.Parameter]]:
        """The trained parameters, with the numbers that PyTorch's optimisers give them."""
        return enumerate(parameter for group in self.groups for parameter in group)


def is_elementwise(value: Any) -> bool:
    """Whether of an optimiser's state this belongs to single weights, as no counter of steps does."""
    return torch.is_tensor(value) and value.ndim > 0
