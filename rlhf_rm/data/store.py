"""Trees of tokens on disk, mapped into memory: what is not used costs no memory, and ranks share it.

Shape legend: N trees, K branches of all trees, T tokens of all trees.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, overload

import numpy as np
from numpy.typing import NDArray

from rlhf_rm.data.packing import Tokens, Tree

TOKENS = "tokens.bin"
SHAPES = "trees.npz"


@dataclass(frozen=True, slots=True)
class TreeStore(Sequence[Tree]):
    """Many trees in few arrays; each tree is made when it is asked for.

    Args:
        tokens_T: of each tree its shared prefix, then what each branch has of its own.
        first_token_N: where each tree begins in ``tokens_T``; one more for the end, so (N + 1,).
        first_branch_N: where each tree begins among the branches; (N + 1,).
        shared_N: tokens of each shared prefix.
        own_K: tokens of each branch beyond its prefix.
        prompt_K: leading tokens of each branch, prefix included, that are prompt.
    """

    tokens_T: Tokens
    first_token_N: NDArray[np.int64]
    first_branch_N: NDArray[np.int64]
    shared_N: NDArray[np.int32]
    own_K: NDArray[np.int32]
    prompt_K: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.shared_N)

    @overload
    def __getitem__(self, index: int) -> Tree: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tree]: ...
    def __getitem__(self, index: int | slice) -> Tree | list[Tree]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"tree {index} of {len(self)}")
        i = index % len(self)
        at, first, last = self.first_token_N[i], self.first_branch_N[i], self.first_branch_N[i + 1]
        shared = int(self.shared_N[i])
        prefix = self.tokens_T[at : at + shared]
        ends = at + shared + np.cumsum(self.own_K[first:last])
        starts = np.concatenate([[at + shared], ends[:-1]])
        return Tree(
            branches=tuple(
                np.concatenate([prefix, self.tokens_T[start:end]])
                for start, end in zip(starts, ends, strict=True)
            ),
            shared=shared,
            prompt_tokens=tuple(int(prompt) for prompt in self.prompt_K[first:last]),
        )

    def branches(self) -> NDArray[np.int64]:
        """Responses of each tree, (N,)."""
        return np.diff(self.first_branch_N)

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each branch, prefix included, (K,)."""
        return self.own_K.astype(np.int64) + np.repeat(self.shared_N, self.branches())

    def sizes(self, layout: str) -> NDArray[np.int64]:
        """:meth:`Tree.size` of every tree, (N,)."""
        stored = np.diff(self.first_token_N)
        return stored if layout == "shared" else stored + (self.branches() - 1) * self.shared_N

    @classmethod
    def open(cls, directory: Path) -> Self:
        """What a :class:`TreeWriter` left in ``directory``, its tokens mapped and not read."""
        with np.load(directory / SHAPES, allow_pickle=False) as shapes:
            arrays = dict(shapes)
        path = directory / TOKENS
        # An empty file cannot be mapped.
        tokens = np.memmap(path, np.int32, mode="r") if path.stat().st_size else np.empty(0, np.int32)
        return cls(tokens_T=tokens, **arrays)


class TreeWriter:
    """Writes trees one by one, keeping only their shapes in memory.

    Args:
        directory: an empty one; its files are complete once the ``with`` block has ended.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shared, self.branches, self.own, self.prompt = (array("i") for _ in range(4))

    def __enter__(self) -> Self:
        self.file: BinaryIO = (self.directory / TOKENS).open("wb")
        return self

    def add(self, tree: Tree) -> None:
        """Write one tree."""
        own = [branch[tree.shared :] for branch in tree.branches]
        tokens = np.concatenate([tree.branches[0][: tree.shared], *own])
        self.file.write(tokens.astype(np.int32, copy=False).tobytes())
        self.shared.append(tree.shared)
        self.branches.append(len(own))
        self.own.extend(map(len, own))
        self.prompt.extend(tree.prompt_tokens)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.file.close()
        if kind is not None:
            return
        first_branch = np.concatenate([[0], np.cumsum(self.branches, dtype=np.int64)]).astype(np.int64)
        own_so_far = np.concatenate([[0], np.cumsum(self.own, dtype=np.int64)]).astype(np.int64)
        shared_so_far = np.concatenate([[0], np.cumsum(self.shared, dtype=np.int64)]).astype(np.int64)
        np.savez(
            self.directory / SHAPES,
            first_token_N=shared_so_far + own_so_far[first_branch],
            first_branch_N=first_branch,
            shared_N=np.array(self.shared, np.int32),
            own_K=np.array(self.own, np.int32),
            prompt_K=np.array(self.prompt, np.int32),
        )
