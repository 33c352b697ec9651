"""Preference pairs for the members of an ensemble, each in an order of its own.

Shape legend: N responses, D hidden size.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from rlhf_rm.data.batch import FeatureRows, PairBatch, Rows, Step, TensorRecord
from rlhf_rm.data.loading import StepLoader, step_loader, step_sampler
from rlhf_rm.data.preference import PreferenceDataModule
from rlhf_rm.data.sampling import StepSampler
from rlhf_rm.errors import UserError
from rlhf_rm.files import cached_directory, fingerprint

log = logging.getLogger(__name__)
TREES = 256  # of which features are computed at once
FEATURES = "features.npy"
ONE_DEVICE = (
    "method=ensemble trains on one device: use strategy=auto trainer.devices=1; to use more, train the "
    "members as runs of their own, -m 'seed=range(10)'."
)


@dataclass(frozen=True, slots=True)
class EnsembleStep(TensorRecord):
    """One optimiser step of every member.

    Args:
        members: what each member takes.
        batches: which examples those are. Equal ones are equal batches, in the same packing.
    """

    members: tuple[Step[PairBatch], ...]
    batches: tuple[tuple[int, ...], ...]

    def __iter__(self) -> Iterator[PairBatch]:
        """The micro-batches of all members."""
        return (micro_batch for step in self.members for micro_batch in step)


class MemberSampler(Sampler[list[list[int]]]):
    """Yields the indices of each step, a list for each member.

    Args:
        samplers: one a member, of equally many steps.
    """

    def __init__(self, samplers: Sequence[StepSampler]) -> None:
        self.samplers = samplers

    def __len__(self) -> int:
        return len(self.samplers[0])

    def __iter__(self) -> Iterator[list[list[int]]]:
        return (list(step) for step in zip(*self.samplers, strict=True))


class SharedBatchSampler(Sampler[list[list[int]]]):
    """Yields the indices of each step, a list for each member, so that members take the same batches.

    ``size`` batches in succession are a window, through which each member goes in an order of its own:
    what all members have in common of a batch need be computed only once.

    Args:
        sampler: of the batches.
        size: number of members.
    """

    def __init__(self, sampler: StepSampler, size: int) -> None:
        self.sampler, self.size = sampler, size

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[list[int]]]:
        epoch, first = self.sampler.position()
        batches = list(self.sampler.steps(epoch))
        orders = [self._order(epoch, m) for m in range(self.size)]
        for step in range(first, len(batches)):
            yield [batches[order[step]] for order in orders]

    def _order(self, epoch: int, m: int) -> list[int]:
        """The batches of an epoch as a member takes them."""
        rng = np.random.default_rng([self.sampler.seed, epoch, m])
        windows = np.array_split(np.arange(len(self)), range(self.size, len(self), self.size))
        return [int(batch) for window in windows for batch in rng.permutation(window)]


class EnsembleDataModule(PreferenceDataModule):
    """As :class:`PreferenceDataModule`; a training step has a batch for each member.

    Args:
        size: number of members.
    """

    def __init__(self, *args: Any, size: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.size = size
        self.share_batches = False  # whether members take the same batches: see SharedBatchSampler
        self._features: NDArray[np.float32] | None = None

    def train_dataloader(self) -> StepLoader:
        """Steps of ``batch_size`` examples for each member, shuffled by a seed of its own."""
        assert self.trainer is not None
        if self.trainer.world_size > 1:
            raise UserError(ONE_DEVICE)
        train = self.split("train")
        samplers = [
            step_sampler(self.trainer, train.sizes, batch_size=self.batch_size, seed=self.seed * 1000 + m)
            for m in range(self.size)
        ]
        shared = SharedBatchSampler(samplers[0], self.size)
        sampler = shared if self.share_batches else MemberSampler(samplers)
        return step_loader(self._step, sampler, self.trainer, self.workers)

    def use_features(self, features: Callable[[Rows], Tensor], backbone: str, device: torch.device) -> None:
        """Serve what a frozen backbone makes of the training responses instead of their tokens.

        They are computed once, and kept in ``cache_dir``.

        Args:
            features: of the responses of packed rows, (N, D).
            backbone: a name made from its weights and its precision.
            device: of the backbone.
        """
        directory = cached_directory(
            self._directory / f"features_{fingerprint(self._key('train'), backbone)}",
            lambda made: self._compute(features, made / FEATURES, device),
        )
        self._features = np.load(directory / FEATURES, mmap_mode="r", allow_pickle=False)

    def _compute(self, features: Callable[[Rows], Tensor], file: Path, device: torch.device) -> None:
        train = self.split("train")
        first = train.trees.first_branch_N
        found: NDArray[np.float32] | None = None  # in the file, since they may be more than the memory
        for at in range(0, len(train.trees), TREES):
            for rows, order in self.packing.pack(train.trees[at : at + TREES]):
                values = features(rows.to(device)).cpu().numpy()
                where = np.concatenate([np.arange(first[at + i], first[at + i + 1]) for i in order])
                if found is None:
                    shape = (int(first[-1]), values.shape[1])
                    found = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
                found[where] = values
        assert found is not None
        log.info("train: features of %s responses are computed, once", f"{len(found):,}")

    def _step(self, indices: Sequence[Any]) -> EnsembleStep:
        serve = self.split("train").step if self._features is None else self._feature_step
        return EnsembleStep(
            members=tuple(serve(some) for some in indices), batches=tuple(tuple(some) for some in indices)
        )

    def _feature_step(self, indices: Sequence[int]) -> Step[PairBatch]:
        """The pairs of these examples as one batch of features."""
        assert self._features is not None
        train = self.split("train")
        tree, chosen, rejected, index = train.responses(indices)
        first = train.trees.first_branch_N[tree]
        responses, where = np.unique(np.concatenate([first + chosen, first + rejected]), return_inverse=True)
        lengths = train.trees.own_K[responses]
        rows = FeatureRows(
            feature_ND=torch.from_numpy(np.asarray(self._features[responses])),
            length_N=torch.from_numpy(lengths.astype(np.int64)),
            tokens=int(lengths.sum()),
        )
        chosen_B, rejected_B = torch.from_numpy(where).split(len(index))
        return Step((train.batch(rows, chosen_B, rejected_B, index),))
