"""Loaders whose items are whole optimiser steps, packed off the training thread."""

import resource
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from rlhf_rm.data.batch import Step
from rlhf_rm.data.sampling import Sizes, StepSampler
from rlhf_rm.errors import UserError

AHEAD = 2  # processes that pack for a GPU


class StepDataset(Dataset[Step[Any]]):
    """Maps the indices of a step to its packed micro-batches."""

    def __init__(self, collate: Callable[[Sequence[int]], Step[Any]]) -> None:
        self.collate = collate

    def __getitem__(self, indices: Sequence[int]) -> Step[Any]:
        return self.collate(indices)


class StepLoader(DataLoader[Step[Any]]):
    """A loader that Lightning may resume in the middle of an epoch.

    Its position is a function of the trainer's step count (see :class:`StepSampler`), so it has no
    state to save; the two methods tell Lightning that it can be resumed.
    """

    def __iter__(self) -> Iterator[Step[Any]]:  # type: ignore[override]
        """Begin when the first item is asked for.

        Lightning makes the iterator before it has read the step count from a checkpoint, and workers
        would pack ahead from the wrong step.
        """
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Nothing: see the class."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing: see the class."""


def training_loader(
    trainer: L.Trainer,
    collate: Callable[[Sequence[int]], Step[Any]],
    sizes: Sizes,
    *,
    batch_size: int,
    seed: int,
    workers: int | None,
) -> StepLoader:
    """Shuffled steps of this rank, starting where the trainer stands.

    Args:
        trainer: tells rank, number of ranks, and on a resume the epoch and the steps already done.
        collate: packs the examples of one step.
        sizes: tokens of each example.
        batch_size: examples a step and rank.
        seed: of the shuffle.
        workers: processes that pack ahead; 0 packs in the training process; None is 0 on a CPU, whose cores
            are busy, and :data:`AHEAD` beside a GPU.
    """
    sampler = step_sampler(trainer, sizes, batch_size=batch_size, seed=seed)
    return step_loader(collate, sampler, trainer, workers)


def step_sampler(trainer: L.Trainer, sizes: Sizes, *, batch_size: int, seed: int) -> StepSampler:
    """The sampler of :func:`training_loader`."""
    _refuse_lightnings_sampler(trainer)
    return StepSampler(
        sizes,
        batch_size=batch_size,
        seed=seed,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
        steps_done=lambda: trainer.global_step,
        steps_an_epoch=_steps_an_epoch(trainer, len(sizes) // (batch_size * trainer.world_size)),
    )


def evaluation_loader(
    trainer: L.Trainer | None,
    collate: Callable[[Sequence[int]], Step[Any]],
    count: int,
    *,
    batch_size: int,
    workers: int | None,
) -> StepLoader:
    """Every example once, in order; each rank takes every ``world_size``-th batch.

    A rank for which none is left takes an empty one, since Lightning wants as many from all.
    """
    rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
    batches = [list(range(i, min(i + batch_size, count))) for i in range(0, count, batch_size)]
    batches += [[] for _ in range(-len(batches) % world)]
    return step_loader(collate, batches[rank::world], trainer, workers)


def step_loader(
    collate: Callable[[Sequence[Any]], Any], sampler: Any, trainer: L.Trainer | None, workers: int | None
) -> StepLoader:
    """A loader of the steps whose indices a sampler yields."""
    on_gpu = trainer is not None and trainer.strategy.root_device.type == "cuda"
    workers = workers_beside(workers, on_gpu=on_gpu)
    if workers and torch.multiprocessing.get_sharing_strategy() == "file_descriptor":
        allow_open_files()
    return StepLoader(
        StepDataset(collate),
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=on_gpu,
    )


def workers_beside(workers: int | None, *, on_gpu: bool) -> int:
    """How many processes pack ahead: as many as were asked for, else :data:`AHEAD` beside a GPU alone."""
    return workers if workers is not None else AHEAD if on_gpu else 0


def allow_open_files() -> None:
    """Let this process, and those that it makes, hold as many open files as the system allows them.

    A tensor that a worker hands over is an open file until it is freed, and a step of an ensemble has
    thousands; beyond the limit, often 1,024, PyTorch loses the step and waits for it for ever.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _steps_an_epoch(trainer: L.Trainer, steps: int) -> int:
    """Steps of an epoch under ``limit_train_batches``, a number or a share."""
    limit = trainer.limit_train_batches
    return max(1, int(steps * limit) if isinstance(limit, float) else min(steps, int(limit)))


def _refuse_lightnings_sampler(trainer: L.Trainer) -> None:
    """Lightning would put its own sampler over ours, and every rank would get wrong steps."""
    connector = trainer._accelerator_connector
    if trainer.world_size > 1 and connector.use_distributed_sampler:
        raise UserError(
            "use Trainer(use_distributed_sampler=False): the data module deals steps to ranks itself."
        )
