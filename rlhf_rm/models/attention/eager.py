"""Attention written out."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_rm.data.batch import Rows
from rlhf_rm.models.attention.base import Attention, AttentionInputs, visible


class EagerAttention(Attention, AttentionInputs):
    """Attention written out, for models that soft-cap their scores (Gemma 2) or have no faster way."""

    implementation = "eager"

    def attach(self, network: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> AttentionInputs:
        """As in the base class."""
        network.set_attn_implementation(self.implementation)
        return self

    def mask(self, rows: Rows, *, causal: bool, window: int | None = None) -> Tensor:
        """An additive mask (R, 1, T, T): 0 where a query may see a key, else the lowest number."""
        hidden = ~visible(rows, causal=causal, window=window).unsqueeze(1)
        return torch.zeros(hidden.shape, device=hidden.device).masked_fill(
            hidden, torch.finfo(torch.float32).min
        )
