"""Attention of our own in `transformers`: a function that leaves the work to what the model is called with.

Shape legend: R rows, T tokens of a row, H heads, D size of a head.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.base import layer_types

# What some models ask of their attention, and plain attention is not.
BEYOND = ("softcap", "s_aux", "position_bias")
# Models with sliding windows that tell each call of its window; others would silently attend to everything.
TELLS_WINDOW = (
    "gemma2",
    "gemma3_text",
    "ministral",
    "mistral",
    "mixtral",
    "olmo3",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
    "starcoder2",
)
# Models that do not hand on to their attention what they are called with.
HANDS_NOTHING_ON = ("nemotron",)
TREES = "rlhf_rm_trees"  # the name of this way in `transformers`


class TreeAttention(Protocol):
    """Attends over the trees of one forward pass."""

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        *,
        scale: float,
        window: int | None,
        dropout: float,
    ) -> Tensor:
        """What each token reads, (R, T, H, D).

        Args:
            query: (R, H, T, D).
            key, value: the same, or of fewer heads, each for a group of the query's.
            mask: what the model was given as such.
            scale: of the scores.
            window: size of a sliding window in tokens, itself included; None for full attention.
            dropout: share of the attention weights that is dropped.
        """
        ...


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    trees: TreeAttention | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Let ``trees`` attend; without any, as for padded batches and when sampling, it is SDPA.

    Raises:
        UserError: the model asks for what only attention written out can do.
    """
    if trees is None:
        found = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return found[0], None
    strange = [name for name in BEYOND if kwargs.get(name) is not None]
    if strange:
        raise UserError(
            f"{type(module).__name__} wants {', '.join(strange)}, which attention tree by tree cannot: use "
            "attention=eager."
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return (
        _uncompiled(
            trees, query, key, value, attention_mask, scale=scale, window=sliding_window, dropout=dropout
        ),
        None,
    )


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _uncompiled(trees: TreeAttention, *given: Any, **options: Any) -> Tensor:
    """Every pass has other trees: compiled in, each would be a program of its own."""
    return trees(*given, **options)


def takes_trees(network: PreTrainedModel) -> bool:
    """Whether all of a network's attention goes through the interface of `transformers`, its windows too."""
    told = "sliding_attention" not in layer_types(network.config)
    told |= network.config.model_type in TELLS_WINDOW
    told &= network.config.model_type not in HANDS_NOTHING_ON
    return told and bool(getattr(network, "_supports_attention_backend", False))


def no_mask(device: torch.device) -> Tensor:
    """A mask that stands for none: `transformers` takes one of four dimensions as it is, and makes none.

    It is empty, so that attention which reads it after all breaks, and does not see everything.
    """
    return torch.empty(1, 1, 0, 0, dtype=torch.bool, device=device)


AttentionInterface.register(TREES, attend)
AttentionMaskInterface.register(TREES, sdpa_mask)
