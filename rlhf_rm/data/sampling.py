"""Which pairs make up which optimiser step, on which rank: a pure function of seed, epoch and step."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from rlhf_rm.errors import UserError

Sizes = Sequence[int] | NDArray[np.int64]


class StepSampler(Sampler[list[int]]):
    """Yields the indices of each optimiser step of one rank.

    Every step takes exactly ``batch_size`` items on each rank; what is left over at the end of an
    epoch (fewer than ``batch_size * world_size``) waits for the next epoch's shuffle. The items of a
    step are the same for every number of ranks with the same global batch, and are dealt to the
    ranks so that each gets nearly the same number of tokens.

    Args:
        sizes: tokens of each item.
        batch_size: items a step and rank.
        seed: of the shuffle; each epoch has its own order.
        rank, world_size: this process among all.
        steps_done: how many steps the run has taken; asked whenever an epoch begins, so that a
            resumed run goes on where it stopped.
        steps_an_epoch: steps after which the next epoch begins; all of them if None.

    Raises:
        UserError: fewer items than one step takes.
    """

    def __init__(
        self,
        sizes: Sizes,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        steps_done: Callable[[], int] = lambda: 0,
        steps_an_epoch: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size} must be at least 1.")
        self.sizes = np.asarray(sizes)
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.steps_done, self.steps_an_epoch = steps_done, steps_an_epoch
        if len(self) == 0:
            raise UserError(
                f"{len(self.sizes)} training examples are fewer than one step takes "
                f"({batch_size} on each of {world_size} ranks): give more data or lower loader.batch_size."
            )

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        return len(self.sizes) // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, first = self.position()
        yield from self.steps(epoch, first)

    def position(self) -> tuple[int, int]:
        """Where the run stands: the epoch, and how many of its steps are done."""
        return divmod(self.steps_done(), min(self.steps_an_epoch or len(self), len(self)))

    def steps(self, epoch: int, first: int = 0) -> Iterator[list[int]]:
        """The steps of an epoch from the ``first`` on."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.sizes))
        taken = self.batch_size * self.world_size
        for step in range(first, len(self)):
            yield self._deal(order[step * taken : (step + 1) * taken])

    def _deal(self, items: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> list[int]:
        """This rank's share: largest first, each to the rank with the fewest tokens that has room."""
        if self.world_size == 1:
            return [int(i) for i in items]
        shares: list[list[int]] = [[] for _ in range(self.world_size)]
        tokens = [0] * self.world_size
        for i in sorted(items, key=lambda i: (-self.sizes[i], i)):
            rank = min(
                (r for r in range(self.world_size) if len(shares[r]) < self.batch_size),
                key=lambda r: tokens[r],
            )
            shares[rank].append(int(i))
            tokens[rank] += int(self.sizes[i])
        return shares[self.rank]
