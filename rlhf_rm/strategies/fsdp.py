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
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from rlhf_rm.errors import UserError
from rlhf_rm.models.adapter import layers_of
from rlhf_rm.strategies.sharded import Sharded, disable_alike, without_weights
from rlhf_rm.strategies.sharded_checkpoint import (
    REST,
    WEIGHTS,
    is_sharded,
    optimizer_tensors,
    read_rest,
    read_shards,
    write_shards,
    written_names,
)


class FSDPStrategy(Sharded, ModelParallelStrategy):
    """Shards a model block by block over all ranks; checkpoints are directories to which each rank writes.

    Args:
        timeout_seconds: how long a rank waits for the others.
    """

    def __init__(self, timeout_seconds: float) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=True,
            timeout=timedelta(seconds=timeout_seconds),
        )
        self._empty: dict[nn.Module, PreTrainedModel] = {}  # what each sharded network was, less its weights

    def setup_environment(self) -> None:
        """As in the base class, with all ranks sharing the data."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def shard(self, model: nn.Module) -> None:
        """Shard a model: each block of its ``network`` by itself, and what is left together.

        Its weights are gathered for ``forward``, and for the methods that it names in ``passes``.
        """
        if isinstance(model, FSDPModule):
            return
        mesh = self.device_mesh["data_parallel"]
        network = getattr(model, "network", None)
        if network is not None:
            self._empty[network] = without_weights(network)
            for layer in layers_of(network):
                fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        for name in getattr(model, "passes", ()):
            register_fsdp_forward_method(model, name)

    def whole_network(self, model: nn.Module) -> PreTrainedModel:
        """See the base class.

        Generating in shards would gather every block for every token, in step with all ranks.
        """
        network: Any = model.network
        options = StateDictOptions(full_state_dict=True)
        weights: dict[str, Any] = get_model_state_dict(network, options=options)
        made = without_weights(self._empty[network])
        made.load_state_dict(weights, assign=True)
        disable_alike(made, network)
        return made

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None
    ) -> None:
        """Let each rank write what it holds; weights alone are gathered, and are a file of the first rank.

        The base class would write pickled code beside the tensors.
        """
        path = Path(self.broadcast(filepath))
        weights = checkpoint.pop("state_dict")
        if "optimizer_states" not in checkpoint:
            gathered = self.whole(self.lightning_module)  # type: ignore[arg-type]
            if self.is_global_zero:
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.save(checkpoint | {"state_dict": {name: gathered[name] for name in weights}}, path)
            return
        tied = {
            name: first
            for name, first in tied_names(self.lightning_module).items()  # type: ignore[arg-type]
            if name in weights  # beside adapters the network's own are frozen, and not saved
        }
        tensors = {WEIGHTS + name: value for name, value in weights.items() if name not in tied}
        states = checkpoint.pop("optimizer_states")
        for number, state in enumerate(states):
            tensors |= optimizer_tensors(number, state["state"])
        write_shards(path, tensors)
        if self.is_global_zero:
            groups = [state["param_groups"] for state in states]
            torch.save(checkpoint | {"optimizer_groups": groups, "tied": tied}, path / REST)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Give each rank its share of a checkpoint by any number of ranks, under any strategy.

        Raises:
            RuntimeError: the state is that of another model.
            UserError: it is no state to go on from.
        """
        path = Path(self.broadcast(checkpoint_path))
        return self._from_shards(path) if is_sharded(path) else self._from_file(path, weights_only)

    def _from_shards(self, path: Path) -> dict[str, Any]:
        module: Any = self.lightning_module
        written = written_names(path)
        rest = read_rest(path)
        names = [name.removeprefix(WEIGHTS) for name in written if name.startswith(WEIGHTS)]
        module.check_state(dict.fromkeys([*names, *rest.pop("tied")]))
        own: dict[str, Any] = get_model_state_dict(module)
        tensors = {WEIGHTS + name: own[name] for name in names}
        states: list[Any] = [get_optimizer_state_dict(module, optimizer) for optimizer in self.optimizers]
        for number, state in enumerate(states):
            tensors |= optimizer_tensors(number, state["state"])
        strange = sorted(written.keys() ^ tensors.keys())
        if strange:
            raise RuntimeError(
                f"the state_dict is that of another optimiser: {len(strange)} tensors are missing or "
                f"unknown, such as {strange[0]}."
            )
        read_shards(path, tensors)
        groups = rest.pop("optimizer_groups")
        for optimizer, state, saved in zip(self.optimizers, states, groups, strict=True):
            set_optimizer_state_dict(module, optimizer, {**state, "param_groups": saved})
        return {**rest, "state_dict": {}}

    def _from_file(self, path: Path, weights_only: bool | None) -> dict[str, Any]:
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
        """See the base class."""
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_model_state_dict(module, dict(weights), options=options)

    def whole(self, module: nn.Module) -> dict[str, Tensor]:
        """See the base class."""
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


def tied_names(module: nn.Module) -> dict[str, str]:
    """Names of weights that are others under a second name, with the first names of those."""
    first: dict[int, str] = {}
    named = module.named_parameters(remove_duplicate=False)
    return {name: first[id(one)] for name, one in named if first.setdefault(id(one), name) != name}


def whole(value: Tensor) -> Tensor:
    """A sum or a norm over all shards."""
    return value.full_tensor() if isinstance(value, DTensor) else value
