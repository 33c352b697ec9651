"""Items on the disk in place of memory, and sequences that make their items as they are asked for."""

import os
import pickle
import tempfile
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, chain
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from rlhf_rm.errors import UserError

T = TypeVar("T")


class LazySequence(Sequence[T]):
    """A sequence whose items are made when they are asked for; equal to any other of equal items."""

    @abstractmethod
    def _item(self, index: int) -> T:
        """The item at an index that is there."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._item(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return self._item(index % len(self))

    def __iter__(self) -> Iterator[T]:
        # The way of the base class ends at any IndexError, also at one that is a mistake.
        return (self._item(index) for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process has not our file: it gets the items.
        return spooled, (list(self),)


class Spool(LazySequence[T]):
    """A list to be added to that lies in a temporary file, and in memory 8 bytes an item.

    The file has no name, and goes with the object; it lies where the variable TMPDIR says. Processes
    that were forked may read at the same time.

    Raises:
        UserError: the file cannot be made, or there is no room for it.
    """

    def __init__(self) -> None:
        with _saying_where():
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (closed with the object)
        self._ends = array("Q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, item: T) -> None:
        """Add an item that can be pickled."""
        content = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
        begin = self._ends[-1]
        done = 0
        with _saying_where():
            while done < len(content):  # a disk takes what it has room for, and refuses the rest
                done += os.pwrite(self._file.fileno(), content[done:], begin + done)
        self._ends.append(begin + done)

    def _item(self, index: int) -> T:
        begin, end = self._ends[index], self._ends[index + 1]
        # Nobody else has this file, so what is unpickled is what was pickled above.
        item: T = pickle.loads(os.pread(self._file.fileno(), end - begin, begin))
        return item


@contextmanager
def _saying_where() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"the rows that are read do not fit into {tempfile.gettempdir()} ({error.strerror}): name a "
            "directory with more room in the environment, TMPDIR=DIR."
        ) from error


def spooled(items: Iterable[T]) -> Spool[T]:
    """These items in a spool."""
    spool: Spool[T] = Spool()
    for item in items:
        spool.append(item)
    return spool


class View(LazySequence[T]):
    """Some items of a sequence, changed as they are taken.

    Args:
        items: where they are taken from.
        at: which of them, in this order; None takes all.
        change: makes of an index of ``items`` and its item what is given out.
    """

    def __init__(
        self,
        items: Sequence[Any],
        at: NDArray[np.int64] | None = None,
        change: Callable[[int, Any], T] | None = None,
    ) -> None:
        self._items, self._at, self._change = items, at, change

    def __len__(self) -> int:
        return len(self._items) if self._at is None else len(self._at)

    def _item(self, index: int) -> T:
        at = index if self._at is None else int(self._at[index])
        item: T = self._items[at]
        return item if self._change is None else self._change(at, item)


class Chain(LazySequence[T]):
    """Several sequences, one after the other."""

    def __init__(self, parts: Iterable[Sequence[T]]) -> None:
        self._parts = list(parts)
        self._ends = list(accumulate(map(len, self._parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self._parts)

    def _item(self, index: int) -> T:
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self._parts[part][index - (self._ends[part - 1] if part else 0)]
