"""Attention over packed rows, behind one interface.

Shape legend: R rows, T tokens of a row.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from rlhf_rm.data.batch import Rows


class Attention(ABC):
    """A way to compute attention over trees of shared prefixes.

    ``implementation`` is what ``transformers`` is told to use (``attn_implementation``).
    """

    implementation: str

    @abstractmethod
    def mask(self, rows: Rows, *, causal: bool, window: int | None = None) -> Any:
        """What a ``transformers`` model takes as ``attention_mask`` for these rows.

        Args:
            rows: the packed tokens.
            causal: decoder (a token sees itself and what comes before) or encoder.
            window: size of a sliding window in tokens, itself included; None for full attention.
        """


class SDPAAttention(Attention):
    """PyTorch's scaled dot-product attention with a dense mask: every device, and the reference."""

    implementation = "sdpa"

    def mask(self, rows: Rows, *, causal: bool, window: int | None = None) -> Tensor:
        """A boolean mask (R, 1, T, T), True where query (third axis) may see key (fourth)."""
        return visible(rows, causal=causal, window=window).unsqueeze(1)


class EagerAttention(Attention):
    """Attention written out, for models that soft-cap their scores (Gemma 2) or have no faster way."""

    implementation = "eager"

    def mask(self, rows: Rows, *, causal: bool, window: int | None = None) -> Tensor:
        """An additive mask (R, 1, T, T): 0 where a query may see a key, else the lowest number."""
        hidden = ~visible(rows, causal=causal, window=window).unsqueeze(1)
        return torch.zeros(hidden.shape, device=hidden.device).masked_fill(
            hidden, torch.finfo(torch.float32).min
        )


def visible(rows: Rows, *, causal: bool, window: int | None = None) -> Tensor:
    """Which key each query may see, (R, T, T): its own tree's prefix and its own branch.

    Padding sees padding, so that no softmax is taken over nothing.
    """
    tree, branch, position = rows.tree_RT, rows.branch_RT, rows.position_ids_RT
    allowed = tree.unsqueeze(2) == tree.unsqueeze(1)
    if not causal:
        return allowed
    key_branch = branch.unsqueeze(1)
    allowed &= (key_branch == 0) | (key_branch == branch.unsqueeze(2))
    width = tree.shape[1]
    allowed &= torch.ones(width, width, dtype=torch.bool, device=tree.device).tril()
    if window is not None:
        # Distance by position, not by column: in a branch the prefix lies further left than it is.
        allowed &= position.unsqueeze(2) - position.unsqueeze(1) < window
    return allowed
