"""PyTorch's scaled dot-product attention."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_rm.data.batch import Rows
from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.base import Attention, AttentionInputs, soft_capped, visible


class SDPAAttention(Attention, AttentionInputs):
    """Scaled dot-product attention with a dense mask: every device, and the reference."""

    implementation = "sdpa"

    def attach(self, network: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> AttentionInputs:
        """As in the base class.

        Raises:
            UserError: the model soft-caps its scores.
        """
        if soft_capped(network):
            raise UserError(
                f"a {network.config.model_type} model soft-caps its attention scores, which SDPA cannot: "
                "use attention=eager, attention=flex or attention=auto."
            )
        network.set_attn_implementation(self.implementation)
        return self

    def mask(self, rows: Rows, *, causal: bool, window: int | None = None) -> Tensor:
        """A boolean mask (R, 1, T, T), True where query (third axis) may see key (fourth)."""
        return visible(rows, causal=causal, window=window).unsqueeze(1)
