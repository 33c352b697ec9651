"""Packing: trees `prefix -> {chosen, rejected}` laid side by side in rows.

Three layouts of the same trees give the same rewards; they differ in how many tokens they cost:

``shared``  the prefix that all responses of a prompt have in common is stored once;
``packed``  every response whole, many to a row;
``padded``  every response whole, one to a row, filled up to the longest: how most trainers do it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rlhf_rm.data.batch import Rows, Sequences
from rlhf_rm.errors import UserError

LAYOUTS = ("shared", "packed", "padded")
Tokens = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Tree:
    """One prompt's responses as token sequences.

    Args:
        branches: each response's whole sequence, prompt included.
        shared: how many leading tokens all of them have in common; less than the shortest.
        prompt_tokens: how many leading tokens of each branch are prompt.
    """

    branches: tuple[Tokens, ...]
    shared: int
    prompt_tokens: tuple[int, ...]

    def times(self, copies: int) -> "Tree":
        """The same tree with each branch so many times, one whole set after the other."""
        return self if copies == 1 else Tree(self.branches * copies, self.shared, self.prompt_tokens * copies)

    def size(self, layout: str) -> int:
        """Tokens that the tree takes in a row."""
        total = sum(len(branch) for branch in self.branches)
        return total - (len(self.branches) - 1) * self.shared if layout == "shared" else total


@dataclass(frozen=True, slots=True)
class Packing:
    """How trees become forward passes.

    Args:
        layout: one of :data:`LAYOUTS`.
        row_tokens: tokens that a row is filled up to; a longer tree gets a row of its own.
        micro_tokens: tokens of one forward pass, padding included; at least one row is taken.
        pad_id: token id that fills up rows. It is masked, so any valid id will do, EOS too.
        row_multiple: widths of rows are rounded up to a multiple of this many tokens.
    """

    layout: str
    row_tokens: int
    micro_tokens: int
    pad_id: int
    row_multiple: int

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise UserError(f"layout={self.layout} is unknown: use one of {', '.join(LAYOUTS)}, or auto.")
        for name in ("row_tokens", "micro_tokens", "row_multiple"):
            if getattr(self, name) < 1:
                raise UserError(f"loader.{name}={getattr(self, name)} must be at least 1.")

    def pack(self, trees: Sequence[Tree]) -> Iterator[tuple[Rows, list[int]]]:
        """Yield each forward pass and which trees lie in it.

        The responses of a pass are numbered tree by tree in the order of the second item.
        """
        if self.layout == "padded":
            bins = [[i] for i in sorted(range(len(trees)), key=lambda i: -_longest(trees[i]))]
            widths = [_longest(trees[bin_[0]]) for bin_ in bins]
            heights = [len(trees[bin_[0]].branches) for bin_ in bins]
        else:
            bins = first_fit_decreasing([tree.size(self.layout) for tree in trees], self.row_tokens)
            widths = [sum(trees[i].size(self.layout) for i in bin_) for bin_ in bins]
            heights = [1] * len(bins)
        widths = [self._rounded(width) for width in widths]
        for group in _group(widths, heights, self.micro_tokens):
            chosen = [bins[b] for b in group]
            yield self._rows(trees, chosen), [i for bin_ in chosen for i in bin_]

    def _rows(self, trees: Sequence[Tree], bins: Sequence[Sequence[int]]) -> Rows:
        segments = [list(self._segments(trees, bin_)) for bin_ in bins]
        rows: list[list[_Segment]] = (
            [[segment] for row in segments for segment in row] if self.layout == "padded" else segments
        )
        width = self._rounded(max(sum(segment.size for segment in row) for row in rows))
        shape = (len(rows), width)
        ids = np.full(shape, self.pad_id, np.int64)
        positions = np.zeros(shape, np.int64)
        tree_of = np.full(shape, -1, np.int64)
        branch_of = np.zeros(shape, np.int64)
        first: list[int] = []
        last: list[int] = []
        length: list[int] = []
        sequences = _Sequences()
        for r, row in enumerate(rows):
            at = 0
            for number, segment in enumerate(row):
                start, shared = at, segment.shared
                ids[r, at : at + shared] = segment.branches[0][:shared]
                positions[r, at : at + shared] = np.arange(shared)
                at += shared
                for k, branch in enumerate(segment.branches):
                    own = len(branch) - shared
                    ids[r, at : at + own] = branch[shared:]
                    positions[r, at : at + own] = np.arange(shared, len(branch))
                    branch_of[r, at : at + own] = k + 1 if len(segment.branches) > 1 else 0
                    sequences.add(r * width + start, shared, r * width + at, own)
                    at += own
                    first.append(r * width + start)
                    last.append(r * width + at - 1)
                    length.append(len(branch) - segment.prompt_tokens[k])
                tree_of[r, start:at] = number
            if at < width:
                sequences.add(r * width + at, 0, r * width + at, width - at)
        return Rows(
            input_ids_RT=torch.from_numpy(ids),
            position_ids_RT=torch.from_numpy(positions),
            tree_RT=torch.from_numpy(tree_of),
            branch_RT=torch.from_numpy(branch_of),
            first_N=torch.tensor(first),
            last_N=torch.tensor(last),
            length_N=torch.tensor(length),
            one_per_row=self.layout == "padded",
            tokens=int((tree_of >= 0).sum()),
            sequences=sequences.record(),
        )

    def _rounded(self, width: int) -> int:
        return -(-width // self.row_multiple) * self.row_multiple

    def _segments(self, trees: Sequence[Tree], bin_: Sequence[int]) -> Iterator["_Segment"]:
        """The trees of one row; without sharing, a segment for each response."""
        for i in bin_:
            tree = trees[i]
            if self.layout == "shared":
                yield _Segment(tree.branches, tree.shared, tree.prompt_tokens)
            else:
                for branch, prompt in zip(tree.branches, tree.prompt_tokens, strict=True):
                    yield _Segment((branch,), 0, (prompt,))


@dataclass(frozen=True, slots=True)
class _Segment:
    branches: tuple[Tokens, ...]
    shared: int
    prompt_tokens: tuple[int, ...]

    @property
    def size(self) -> int:
        return self.shared + sum(len(branch) - self.shared for branch in self.branches)


class _Sequences:
    """Collects :class:`Sequences`, one branch after the other."""

    def __init__(self) -> None:
        self.queries: list[int] = []
        self.keys: list[int] = []
        self.runs: list[NDArray[np.int64]] = []  # of keys that lie side by side in a row

    def add(self, prefix: int, shared: int, begin: int, own: int) -> None:
        """A branch of ``own`` tokens from ``begin`` on, after ``shared`` ones from ``prefix`` on."""
        adjoins = prefix + shared == begin  # the first branch takes the prefix's queries with it
        self.queries.append(shared + own if adjoins else own)
        self.keys.append(shared + own)
        self.runs += [np.arange(prefix, prefix + shared), np.arange(begin, begin + own)]

    def record(self) -> Sequences:
        """What was collected."""
        return Sequences(
            cu_seqlens_q_S=torch.tensor([0, *np.cumsum(self.queries)], dtype=torch.int32),
            cu_seqlens_k_S=torch.tensor([0, *np.cumsum(self.keys)], dtype=torch.int32),
            key_K=torch.from_numpy(np.concatenate(self.runs)),
            max_seqlen_q=max(self.queries),
            max_seqlen_k=max(self.keys),
        )


def shared_prefix(branches: Sequence[Tokens]) -> int:
    """Length of the longest common prefix, less where needed so that each branch keeps a token of its own."""
    limit = min(len(branch) for branch in branches) - 1
    first = branches[0][:limit]
    for branch in branches[1:]:
        differs = np.flatnonzero(first != branch[: len(first)])
        if len(differs):
            first = first[: differs[0]]
    return len(first)


def first_fit_decreasing(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Bin packing: largest first, each into the first bin with room; a too large one gets its own bin."""
    bins: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        for b, left in enumerate(room):
            if sizes[i] <= left:
                bins[b].append(i)
                room[b] -= sizes[i]
                break
        else:
            bins.append([i])
            room.append(capacity - sizes[i])
    return bins


def _longest(tree: Tree) -> int:
    return max(len(branch) for branch in tree.branches)


def _group(widths: Sequence[int], heights: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Bins of like width to forward passes of at most ``limit`` tokens, the widest first."""
    group: list[int] = []
    rows = 0
    for b in sorted(range(len(widths)), key=lambda b: (-widths[b], b)):
        # The group's first bin is its widest, so it sets the width of all.
        if group and (rows + heights[b]) * widths[group[0]] > limit:
            yield group
            group, rows = [], 0
        group.append(b)
        rows += heights[b]
    if group:
        yield group
