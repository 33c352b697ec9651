"""FlashAttention over trees: one call of a kernel for sequences of different lengths.

Shape legend: R rows, T tokens of a row, H heads, D size of a head.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_rm.data.batch import Rows, Sequences
from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.base import Attention, AttentionInputs, has_other_values, soft_capped
from rlhf_rm.models.attention.kernels import VarlenKernel, check_alignment, installed_kernels
from rlhf_rm.models.attention.trees import TREES, no_mask, takes_trees

HALF = (torch.float16, torch.bfloat16)


class FlashAttention(Attention):
    """FlashAttention on a GPU, in 16 bits: no mask, and no time for what it would block.

    A tree's prefix with its first branch is a sequence, and so is each further branch, whose keys are the
    prefix and itself (:class:`~rlhf_rm.data.batch.Sequences`): causal attention aligned at the bottom
    right takes all of them in one call. Keys and values are copied, a prefix's once for each branch.
    """

    implementation = None

    def attach(self, network: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> AttentionInputs:
        """As in the base class; the kernel is compared with attention written out first.

        Raises:
            UserError: no such kernel for this model, device or dtype, or one that computes something else.
        """
        why = self.why_not(network, device, dtype)
        if why is not None:
            raise UserError(f"attention=flash is not possible: {why}; use attention=auto.")
        kernel = installed_kernels()[0]
        check_alignment(kernel, device, dtype)
        network.set_attn_implementation(TREES)
        return Varlen(kernel, dtype)

    @staticmethod
    def why_not(network: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> str | None:
        """Why this model cannot be run so, or None if it can."""
        if device.type != "cuda":
            return f"its kernels are for GPUs, and this is {device}"
        if dtype not in HALF:
            return f"its kernels compute in 16 bits, and this is {str(dtype).removeprefix('torch.')}"
        why = _why_not_model(network)
        if why is None and not installed_kernels():
            return "neither flash-attn nor a PyTorch with variable-length attention is installed"
        return why


def _why_not_model(network: PreTrainedModel) -> str | None:
    """Why no kernel computes the attention of this model, or None if one does."""
    kind = network.config.model_type
    if not takes_trees(network):
        return f"the attention of a {kind} model cannot be replaced"
    if soft_capped(network):
        return f"a {kind} model soft-caps its attention scores"
    if has_other_values(network):
        return f"the values of a {kind} model have another size than its queries"
    return None


class Varlen(AttentionInputs):
    """Sequences in place of a mask.

    Args:
        kernel: what attends over them.
        dtype: of queries, keys and values.
    """

    def __init__(self, kernel: VarlenKernel, dtype: torch.dtype) -> None:
        self.kernel, self.dtype = kernel, dtype

    def mask(self, rows: Rows, *, causal: bool, window: int | None = None) -> Tensor:
        """None is needed: see :func:`~rlhf_rm.models.attention.trees.no_mask`."""
        return no_mask(rows.input_ids_RT.device)

    def arguments(self, rows: Rows, *, causal: bool) -> dict[str, Any]:
        """The sequences of the rows and what attends over them."""
        return {"trees": VarlenTrees(self.kernel, rows.sequences, self.dtype, causal=causal)}


class VarlenTrees:
    """Attention of one forward pass by a kernel for sequences of different lengths.

    Args:
        kernel: what computes.
        sequences: of the rows, on their device.
        dtype: what the kernel is given. Under autocast rotary positions leave queries and keys in float32.
        causal: decoder or encoder.
    """

    def __init__(
        self, kernel: VarlenKernel, sequences: Sequences, dtype: torch.dtype, *, causal: bool
    ) -> None:
        self.kernel, self.sequences, self.dtype, self.causal = kernel, sequences, dtype, causal

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
        """See :class:`~rlhf_rm.models.attention.trees.TreeAttention`.

        Raises:
            UserError: dropout of attention weights, which not every kernel can.
        """
        if dropout > 0:
            raise UserError(
                f"attention=flash has no dropout of attention weights, and the model asks for {dropout:g}: "
                "use attention=sdpa, or a model without (model.architecture.attention_dropout=0)."
            )
        rows, heads, width, _ = query.shape
        query, key, value = (one.transpose(1, 2).flatten(0, 1).to(self.dtype) for one in (query, key, value))
        found = self.kernel(
            query,
            key.index_select(0, self.sequences.key_K),
            value.index_select(0, self.sequences.key_K),
            self.sequences,
            scale=scale,
            causal=self.causal,
            window=window,
        )
        return found.reshape(rows, width, heads, -1)
