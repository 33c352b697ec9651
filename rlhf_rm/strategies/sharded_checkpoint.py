"""Checkpoints of many ranks: a directory to which each writes what it holds.

Tensors are safetensors files, one a rank, in the sharded format of ``torch.distributed.checkpoint``, so that
any number of ranks can read them again; everything else is in ``rest.ckpt``.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from rlhf_rm.errors import UserError

REST = "rest.ckpt"
WEIGHTS = "weights/"  # how the names of the model's tensors begin
STATE = "optimizer_{number}/{key}/"  # and those of an optimiser's, one for each parameter


class FromShards(TorchCheckpointIO):
    """Lets other strategies go on from a checkpoint in shards; what they save is one file."""

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The whole checkpoint, on every rank that asks."""
        return read_whole(Path(path))


def is_sharded(path: Path) -> bool:
    """Whether this is such a directory."""
    return (path / REST).is_file()


def optimizer_tensors(number: int, state: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """What an optimiser knows of each parameter, by the names under which it is written.

    Args:
        number: of the optimiser.
        state: by the parameters' names.
    """
    return {
        STATE.format(number=number, key=key) + name: value
        for name, kept in state.items()
        for key, value in kept.items()
        if isinstance(value, Tensor)
    }


def write_shards(directory: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write what this rank holds of these tensors. All ranks must ask.

    Raises:
        OSError: the disk of one of them is full, or does not let it write.
    """
    directory.mkdir(parents=True, exist_ok=True)
    writer = HuggingFaceStorageWriter(str(directory), save_distributed=True)
    with _plain_errors(directory):
        save(dict(tensors), storage_writer=writer)


def read_shards(directory: Path, into: Mapping[str, Tensor]) -> None:
    """Fill tensors in place, each rank its share. All ranks must ask."""
    with _plain_errors(directory):
        load(dict(into), storage_reader=HuggingFaceStorageReader(str(directory)))


def written_names(directory: Path) -> dict[str, torch.Size]:
    """The tensors that lie in a directory, with their shapes.

    Raises:
        UserError: a file of it is damaged.
    """
    return {name: one.size for name, one in _metadata(directory).items()}


def read_rest(path: Path) -> dict[str, Any]:
    """What a checkpoint holds beside its tensors: numbers and plain values, never code."""
    rest: dict[str, Any] = torch.load(path / REST, map_location="cpu", weights_only=True)
    return rest


def read_whole(path: Path, *, weights_only: bool = False) -> dict[str, Any]:
    """A checkpoint as one file would hold it, read by one process alone.

    Args:
        path: the directory.
        weights_only: leave the optimisers' tensors where they are.
    """
    known = _metadata(path)
    tensors = {
        name: torch.empty(one.size, dtype=one.properties.dtype)
        for name, one in known.items()
        if name.startswith(WEIGHTS) or not weights_only
    }
    with _plain_errors(path), warnings.catch_warnings():
        # That there is no process group is no news to who reads alone.
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        load(tensors, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)
    checkpoint = read_rest(path)
    groups, tied = checkpoint.pop("optimizer_groups"), checkpoint.pop("tied")
    weights = {
        name.removeprefix(WEIGHTS): value for name, value in tensors.items() if name.startswith(WEIGHTS)
    }
    weights |= {name: weights[first] for name, first in tied.items()}
    states = [] if weights_only else [_numbered(i, group, tensors) for i, group in enumerate(groups)]
    return {**checkpoint, "state_dict": weights, "optimizer_states": states}


def _numbered(
    number: int, groups: Iterable[Mapping[str, Any]], tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """An optimiser's state as PyTorch writes it: with numbers in place of the parameters' names."""
    names = [name for group in groups for name in group["params"]]
    numbers = {name: i for i, name in enumerate(names)}
    state: dict[int, dict[str, Tensor]] = {}
    for written, value in tensors.items():
        owner, _, rest = written.partition("/")
        key, _, name = rest.partition("/")
        if owner == f"optimizer_{number}":
            state.setdefault(numbers[name], {})[key] = value
    numbered = [{**group, "params": [numbers[name] for name in group["params"]]} for group in groups]
    return {"state": state, "param_groups": numbered}


@contextmanager
def _plain_errors(directory: Path) -> Iterator[None]:
    """What failed on some rank, as an error of its own kind: the library's is not even an ``Exception``."""
    try:
        yield
    except CheckpointException as error:
        cause, _ = next(iter(error.failures.values()))
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror, str(directory)) from error
        raise RuntimeError(f"{directory}: {cause}") from error


def _metadata(directory: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = HuggingFaceStorageReader(str(directory)).read_metadata().state_dict_metadata
    except Exception as error:  # safetensors has a kind of its own, which is no RuntimeError
        raise UserError(f"{directory} is damaged: {' '.join(str(error).split())[:160]}") from error
    return found
