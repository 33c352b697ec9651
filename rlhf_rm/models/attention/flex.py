"""FlexAttention over trees: a compiled kernel that leaves out whole blocks of the mask.

Shape legend: R rows, T tokens of a row.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.masking_utils import flex_attention_mask

from rlhf_rm.data.batch import Rows
from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.base import Attention, AttentionInputs

FLEX = "rlhf_rm_flex"  # the name of this way in `transformers`


class FlexAttention(Attention, AttentionInputs):
    """PyTorch's FlexAttention: any dtype on a GPU, and soft-capped scores; on a CPU no training."""

    implementation = None

    def attach(self, network: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> AttentionInputs:
        """As in the base class.

        Raises:
            UserError: the model cannot be run so.
        """
        why = self.why_not(network)
        if why is not None:
            raise UserError(f"attention=flex is not possible: {why}; use attention=auto.")
        network.set_attn_implementation(FLEX)
        return self

    @staticmethod
    def why_not(network: PreTrainedModel) -> str | None:
        """Why this model cannot be run so, or None if it can."""
        if not getattr(network, "_supports_flex_attn", False):
            return f"a {network.config.model_type} model does not know FlexAttention"
        return None

    def mask(self, rows: Rows, *, causal: bool, window: int | None = None) -> BlockMask:
        """Which blocks of queries and keys are needed, and what of them.

        Raises:
            UserError: gradients on a CPU, where FlexAttention has none.
        """
        tree, branch, position = rows.tree_RT, rows.branch_RT, rows.position_ids_RT
        if tree.device.type == "cpu" and torch.is_grad_enabled():
            raise UserError("attention=flex has no backward pass on a CPU: use attention=auto.")

        def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            allowed = tree[row, query] == tree[row, key]
            if not causal:
                return allowed
            of_branch = (branch[row, key] == 0) | (branch[row, key] == branch[row, query])
            allowed = allowed & of_branch & (query >= key)
            if window is None:
                return allowed
            return allowed & (position[row, query] - position[row, key] < window)

        count, width = tree.shape
        return create_block_mask(sees, count, None, width, width, device=str(tree.device))


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """The FlexAttention of `transformers`, with queries, keys and values in one dtype.

    Under autocast rotary positions leave queries and keys in float32.
    """
    device = query.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype
    query, key, value = (one.to(dtype) for one in (query, key, value))
    found: tuple[Tensor, Tensor | None] = flex_attention_forward(
        module, query, key, value, attention_mask, **kwargs
    )
    return found


AttentionInterface.register(FLEX, attend)
AttentionMaskInterface.register(FLEX, flex_attention_mask)
