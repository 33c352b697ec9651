"""Gradient checkpointing that computes again only what it must."""

from functools import partial
from typing import Any

from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from rlhf_rm.errors import UserError
from rlhf_rm.models.adapter import layers_of

# Operators that attend, by the beginning of their names: their results are small beside the time they take.
ATTENTION = (
    "aten::_scaled_dot_product_",
    "aten::_flash_attention_forward",
    "aten::_efficient_attention_forward",
    "torch_attn::_varlen_attn",
    "flash_attn::_flash_attn_varlen_forward",
    "flash_attn_3::fwd",
)


def checkpoint_activations(network: PreTrainedModel) -> None:
    """Let a network forget its activations and compute them again in the backward pass.

    What attention read is kept, one state a token and layer, so that it is not attended twice; and the
    last layer is not computed again: its backward pass comes first, when its activations would be there
    anyway.

    Raises:
        UserError: a network that cannot.
    """
    if not network.supports_gradient_checkpointing:
        raise UserError(
            f"model.gradient_checkpointing=true is not supported by {network.config.model_type} models: "
            "leave it out, and where memory is short lower loader.micro_tokens."
        )
    network.gradient_checkpointing_enable(
        {"use_reentrant": False, "context_fn": partial(create_selective_checkpoint_contexts, keep)}
    )
    last = layers_of(network)[-1:]
    for layer in last:
        if isinstance(layer, GradientCheckpointingLayer):
            layer.gradient_checkpointing = False


def keep(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """Whether the result of an operator is kept for the backward pass."""
    attends = operator.name().startswith(ATTENTION)
    return CheckpointPolicy.MUST_SAVE if attends else CheckpointPolicy.PREFER_RECOMPUTE
