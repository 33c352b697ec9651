"""Attention over packed rows, behind one interface.

Shape legend: R rows, T tokens of a row.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_rm.data.batch import Rows


class AttentionInputs(ABC):
    """What a network takes so that it attends over trees of shared prefixes."""

    @abstractmethod
    def mask(self, rows: Rows, *, causal: bool, window: int | None = None) -> Any:
        """What a ``transformers`` model takes as ``attention_mask`` for these rows.

        Args:
            rows: the packed tokens.
            causal: decoder (a token sees itself and what comes before) or encoder.
            window: size of a sliding window in tokens, itself included; None for full attention.
        """

    def arguments(self, rows: Rows, *, causal: bool) -> dict[str, Any]:
        """What the model's forward takes beside it."""
        return {}


class Attention(ABC):
    """A way to compute attention over trees of shared prefixes.

    Attributes:
        implementation: what ``transformers`` makes a network with (``attn_implementation``); None for
            what it prefers.
    """

    implementation: str | None

    @abstractmethod
    def attach(self, network: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> AttentionInputs:
        """Let a network attend so; called before its first pass on a device in a dtype.

        Args:
            network: the model; how it attends is changed in place.
            device: where it runs.
            dtype: of queries, keys and values.

        Raises:
            UserError: it cannot run this network there.
        """


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


def soft_capped(network: PreTrainedModel) -> bool:
    """Whether the model soft-caps its attention scores, which few kernels can."""
    return getattr(network.config, "attn_logit_softcapping", None) is not None


def has_other_values(network: PreTrainedModel) -> bool:
    """Whether a head's values have another size than its queries, as in DeepSeek's latent attention."""
    config = network.config
    value = getattr(config, "v_head_dim", None)
    if getattr(config, "qk_nope_head_dim", None) is None:
        return value not in (None, getattr(config, "head_dim", value))
    return bool(value != config.qk_nope_head_dim + config.qk_rope_head_dim)


def layer_types(config: Any) -> set[str]:
    """The kinds of attention in a decoder, in the words of `transformers`."""
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return set(kinds)
    windowed = getattr(config, "sliding_window", None) is not None
    return {"sliding_attention" if windowed else "full_attention"}
