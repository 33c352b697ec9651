"""The encoded pairs of one split with their label columns, ready to be packed.

Shape legend: B pairs.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlhf_rm.data.batch import PairBatch, Step
from rlhf_rm.data.columns import NOTES
from rlhf_rm.data.encoded import EncodedPairs
from rlhf_rm.data.packing import Packing


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """What training reads of each pair beside its tokens, (B,) each.

    Args:
        swap: whether chosen and rejected change places.
        target: probability that chosen is better.
        margin: by how much chosen should exceed rejected, in reward units.
        weight: in the mean of the losses.
        keep: whether the pair is served at all.
    """

    swap: NDArray[np.bool_]
    target: NDArray[np.float32]
    margin: NDArray[np.float32]
    weight: NDArray[np.float32]
    keep: NDArray[np.bool_]

    def content_hash(self) -> str:
        """SHA-256 in hex of all columns."""
        columns = (self.swap, self.target, self.margin, self.weight, self.keep)
        return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()


class PreferenceSplit:
    """Encoded pairs with their label columns, ready to be packed.

    Args:
        encoded: pairs and their trees.
        packing: how they become forward passes.
        labels: other columns than the data's own.
    """

    def __init__(self, encoded: EncodedPairs, packing: Packing, labels: LabelColumns | None = None) -> None:
        self.encoded, self.packing = encoded, packing
        self.trees, self.table, self.report, self.probes = (
            encoded.trees,
            encoded.table,
            encoded.report,
            encoded.probes,
        )
        count = len(encoded)
        self.labels = labels or LabelColumns(
            swap=np.zeros(count, np.bool_),
            target=np.ones(count, np.float32),
            margin=np.nan_to_num(encoded.numbers("margin")).astype(np.float32),
            weight=np.ones(count, np.float32),
            keep=np.ones(count, np.bool_),
        )
        chosen, rejected = encoded.numbers("chosen"), encoded.numbers("rejected")
        self._chosen = np.where(self.labels.swap, rejected, chosen)
        self._rejected = np.where(self.labels.swap, chosen, rejected)
        self.kept = np.flatnonzero(self.labels.keep)
        # Example i is tree _tree[i] with the pairs kept[_first[i]] up to kept[_first[i + 1]].
        tree = encoded.numbers("tree")[self.kept]
        self._tree = np.unique(tree)
        self._first = np.append(np.searchsorted(tree, self._tree), len(tree))
        self.sizes = self.trees.sizes(packing.layout)[self._tree]

    def relabelled(self, labels: LabelColumns) -> "PreferenceSplit":
        """The same pairs with other label columns."""
        return PreferenceSplit(self.encoded, self.packing, labels)

    def without(self, left_out_B: NDArray[np.bool_]) -> "PreferenceSplit":
        """The same pairs, of which these are not served."""
        return self.relabelled(replace(self.labels, keep=self.labels.keep & ~left_out_B))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> list[Any]:
        """A column of the pairs; see :class:`~rlhf_rm.data.encoded.EncodedPairs`."""
        return list(self.table[name].to_pylist())

    @cached_property
    def notes(self) -> dict[str, NDArray[np.float64]]:
        """The notes of the pairs by name, (B,); NaN where a pair has none."""
        names = [name for name in self.table.column_names if name.startswith(NOTES)]
        return {name.removeprefix(NOTES): self.encoded.numbers(name) for name in names}

    @property
    def columns(self) -> dict[str, Sequence[Any]]:
        """The columns by which rewards are told apart; see :func:`~rlhf_rm.metrics.split.evaluate_split`."""
        return {name: self.column(name) for name in ("prompt_id", "source", "tree", "chosen", "rejected")}

    def step(self, indices: Sequence[int], copies: int = 1) -> Step[PairBatch]:
        """The micro-batches of these trees, each with all pairs of its trees.

        Args:
            indices: which examples.
            copies: how often each response lies in its tree, sharing its prefix; each pair comes as often.
        """
        micro_batches = []
        trees = [self.trees[self._tree[i]] for i in indices]
        for rows, order in self.packing.pack([tree.times(copies) for tree in trees]):
            numbers = np.asarray(indices)[order]
            pairs = [self.kept[self._first[i] : self._first[i + 1]] for i in numbers]
            branches = self.trees.branches()[self._tree[numbers]]
            count = [len(some) for some in pairs]
            first = np.repeat((np.cumsum(branches) - branches) * copies, count)
            own = np.repeat(branches, count)
            begin = np.concatenate([first + copy * own for copy in range(copies)])
            index = np.tile(np.concatenate(pairs), copies)
            micro_batches.append(
                self.batch(
                    rows,
                    torch.from_numpy(begin + self._chosen[index]),
                    torch.from_numpy(begin + self._rejected[index]),
                    index,
                )
            )
        return Step(tuple(micro_batches))

    def batch(self, rows: Any, chosen_B: Tensor, rejected_B: Tensor, index: NDArray[np.int64]) -> PairBatch:
        """Pairs of these numbers, (B,), with their label columns."""
        return PairBatch(
            rows=rows,
            chosen_B=chosen_B,
            rejected_B=rejected_B,
            margin_B=torch.from_numpy(self.labels.margin[index]),
            target_B=torch.from_numpy(self.labels.target[index]),
            weight_B=torch.from_numpy(self.labels.weight[index]),
            index_B=torch.from_numpy(index),
        )

    def responses(
        self, indices: Sequence[int]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[np.int64]]:
        """Tree, chosen and rejected branch, and number of every pair of these examples, (B,) each."""
        index = np.concatenate([self.kept[self._first[i] : self._first[i + 1]] for i in indices])
        tree = self.encoded.numbers("tree")[index]
        return tree, self._chosen[index], self._rejected[index], index
