"""FSDP2: every rank holds a share of each weight, of its gradient and of what the optimiser knows of it."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from rlhf_rm.errors import UserError
from rlhf_rm.models.adapter import layers_of


class FSDPStrategy(ModelParallelStrategy):
    """Shards a model block by block over all ranks; checkpoints are whole, in one file, as in other runs.

    Gathering a block's weights is something that all ranks do together. So all must run as many passes in
    each step: see :meth:`~rlhf_rm.methods.step.StepModule.evened`.

    Args:
        timeout_seconds: how long a rank waits for the others.
    """

    def __init__(self, timeout_seconds: float) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            timeout=timedelta(seconds=timeout_seconds),
        )

    def setup_environment(self) -> None:
        """As in the base class, with all ranks sharing the data."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def shard(self, model: nn.Module) -> None:
        """Shard a model with a ``network``: each of its blocks by itself, and what is left together."""
        if isinstance(model, FSDPModule):
            return
        network: Any = model.network
        mesh = self.device_mesh["data_parallel"]
        for layer in layers_of(network):
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Give each rank its share of a checkpoint by any number of ranks.

        The base class takes the optimiser's numbers of parameters for those of the model, which is right
        only where it has them in one group.

        Raises:
            RuntimeError: the state is that of another model.
            UserError: it is no state to go on from.
        """
        path = Path(self.broadcast(checkpoint_path))
        checkpoint: dict[str, Any] = torch.load(
            path, map_location="cpu", mmap=True, weights_only=weights_only
        )
        if "optimizer_states" not in checkpoint:
            raise UserError(
                f"{path} holds weights alone, from which no training goes on: resume with a step_*.ckpt, or "
                "start from an export with model.path."
            )
        module: Any = self.lightning_module
        module.check_state(checkpoint["state_dict"])
        self.load_whole(module, checkpoint["state_dict"])
        names = {parameter: name for name, parameter in module.named_parameters()}
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            if state["state"]:
                options = StateDictOptions(full_state_dict=True, strict=False)
                set_optimizer_state_dict(module, optimizer, by_name(optimizer, state, names), options=options)
        return checkpoint

    def load_whole(self, module: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Give each rank its share of whole weights, which every rank has; those left out stay."""
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_model_state_dict(module, dict(weights), options=options)

    def whole(self, module: nn.Module) -> dict[str, Tensor]:
        """The whole weights, on the CPU of rank 0; nothing on the others. All ranks must ask."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights: dict[str, Any] = get_model_state_dict(module, options=options)
        return weights


def by_name(
    optimizer: Optimizer, state: Mapping[str, Any], names: Mapping[nn.Parameter, str]
) -> dict[str, Any]:
    """What an optimiser saved, with the names of the parameters in place of the numbers that it gave them."""
    known: dict[int, str] = {}
    groups = []
    for ours, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        own = [names[parameter] for parameter in ours["params"]]
        known |= zip(saved["params"], own, strict=True)
        groups.append({**saved, "params": own})
    return {"state": {known[number]: kept for number, kept in state["state"].items()}, "param_groups": groups}


def whole(value: Tensor) -> Tensor:
    """A sum or a norm over all shards."""
    return value.full_tensor() if isinstance(value, DTensor) else value
