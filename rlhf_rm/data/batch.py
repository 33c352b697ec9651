"""What a loader hands to a training step: packed rows of tokens, and the pairs that lie in them.

Shape legend: R rows, T tokens of a row (padding included), N responses, B pairs, S sequences, K keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A record of tensors, and of records of tensors, that moves between devices as one."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same record on ``device``."""
        return type(self)(
            **{f.name: _move(getattr(self, f.name), device, non_blocking) for f in fields(self)}
        )

    def pin_memory(self) -> Self:
        """The same record in page-locked memory, for copies that overlap with work on the GPU."""
        return type(self)(**{f.name: _pin(getattr(self, f.name)) for f in fields(self)})


@dataclass(frozen=True, slots=True)
class Sequences(TensorRecord):
    """The same rows as sequences of queries, each with the keys that it attends to side by side.

    The first sequence of a tree is its prefix with its first branch, and every further branch is one of its
    own, over the prefix and itself. So the last query of a sequence sees all of its keys, the one before all
    but the last, and so on: causal attention aligned at the bottom right, without a mask. Padding at the
    end of a row is a sequence too, so that all R * T tokens are queries once, in the order of the rows.

    Args:
        cu_seqlens_q_S: where each sequence's queries begin in the flattened rows, and the end of the last:
            S + 1 numbers, int32.
        cu_seqlens_k_S: the same of the keys in ``key_K``.
        key_K: flat index (row * T + column) of each key.
        max_seqlen_q, max_seqlen_k: the most queries and keys of a sequence.
    """

    cu_seqlens_q_S: Tensor
    cu_seqlens_k_S: Tensor
    key_K: Tensor
    max_seqlen_q: int
    max_seqlen_k: int


@dataclass(frozen=True, slots=True)
class Rows(TensorRecord):
    """Tokens of one forward pass, with what attention must know of them.

    A *tree* is one prompt with its responses: a shared prefix (branch 0), then one branch per
    response (1, 2, …). A token sees its own tree's prefix and its own branch, up to itself.

    Args:
        input_ids_RT: token ids.
        position_ids_RT: position within the response's own sequence: restarts at each tree and goes
            on from the prefix in each branch.
        tree_RT: number of the tree within the row; -1 on padding.
        branch_RT: 0 in a shared prefix, else the branch; a tree without sharing is all branch 0.
        first_N: flat index (row * T + column) of each response's first token.
        last_N: flat index of each response's last token.
        length_N: tokens of each response beyond its prompt.
        one_per_row: whether each row holds exactly one response, as a padded batch does.
        tokens: number of tokens that are no padding.
        sequences: the same for attention without a mask.
    """

    input_ids_RT: Tensor
    position_ids_RT: Tensor
    tree_RT: Tensor
    branch_RT: Tensor
    first_N: Tensor
    last_N: Tensor
    length_N: Tensor
    one_per_row: bool
    tokens: int
    sequences: Sequences


def idle_rows(device: torch.device) -> Rows:
    """One response of one token: what a rank runs where others have more to do than it."""
    zero, one = (torch.full((1,), n, device=device) for n in (0, 1))
    cu_seqlens = torch.tensor([0, 1], dtype=torch.int32, device=device)
    table = zero.view(1, 1)
    return Rows(
        input_ids_RT=table,
        position_ids_RT=table,
        tree_RT=table,
        branch_RT=table,
        first_N=zero,
        last_N=zero,
        length_N=one,
        one_per_row=True,
        tokens=1,
        sequences=Sequences(cu_seqlens, cu_seqlens, zero, 1, 1),
    )


@dataclass(frozen=True, slots=True)
class FeatureRows(TensorRecord):
    """What a frozen backbone made of N responses, in place of their tokens.

    Args:
        feature_ND: the state that the head reads, D its size.
        length_N: tokens of each response that it does not share.
        tokens: their sum.
    """

    feature_ND: Tensor
    length_N: Tensor
    tokens: int


@dataclass(frozen=True, slots=True)
class PairBatch(TensorRecord):
    """Preference pairs of one forward pass; no pair is split over two.

    Args:
        rows: the packed tokens of all responses (:class:`Rows`), or :class:`FeatureRows`.
        chosen_B, rejected_B: which of the N responses is which.
        margin_B, target_B, weight_B: label columns: margin (reward units), probability that chosen
            is better, weight in the mean.
        index_B: position of each pair in its split.
    """

    rows: Any
    chosen_B: Tensor
    rejected_B: Tensor
    margin_B: Tensor
    target_B: Tensor
    weight_B: Tensor
    index_B: Tensor

    @classmethod
    def idle(cls, device: torch.device) -> Self:
        """No pairs, over rows that can be passed through a model."""
        number, label = (torch.empty(0, dtype=kind, device=device) for kind in (torch.long, torch.float32))
        return cls(idle_rows(device), number, number, label, label, label, number)

    @property
    def examples(self) -> int:
        """Number of pairs."""
        return len(self.chosen_B)


@dataclass(frozen=True, slots=True)
class TextBatch(TensorRecord):
    """Dialogues of one forward pass for supervised fine-tuning.

    Args:
        rows: the packed tokens.
        label_RT: the next token where it belongs to a response, else -100.
    """

    rows: Rows
    label_RT: Tensor

    @classmethod
    def idle(cls, device: torch.device) -> Self:
        """No dialogues, over rows that can be passed through a model."""
        rows = idle_rows(device)
        return cls(rows, torch.full_like(rows.input_ids_RT, -100))

    @property
    def examples(self) -> int:
        """Number of dialogues."""
        return len(self.rows.first_N)


BatchT = TypeVar("BatchT", bound=TensorRecord)


@dataclass(frozen=True, slots=True)
class Step(TensorRecord, Generic[BatchT]):
    """All micro-batches of one optimiser step of one rank."""

    micro_batches: tuple[BatchT, ...]

    def __iter__(self) -> Iterator[BatchT]:
        return iter(self.micro_batches)

    def __len__(self) -> int:
        return len(self.micro_batches)


def _move(value: Any, device: torch.device | str, non_blocking: bool) -> Any:
    if isinstance(value, Tensor | TensorRecord):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, tuple):
        return tuple(_move(item, device, non_blocking) for item in value)
    return value


def _pin(value: Any) -> Any:
    if isinstance(value, Tensor | TensorRecord):
        return value.pin_memory()
    if isinstance(value, tuple):
        return tuple(_pin(item) for item in value)
    return value
