"""Hidden dropout in models that have none of their own, and none in models that have."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from rlhf_rm.errors import UserError
from rlhf_rm.models.adapter import layers_of

# How the parts of a layer are called whose output is added to the hidden states.
BRANCHES = ("attn", "attention", "mlp", "feed_forward", "ffn")


def set_hidden_dropout(network: PreTrainedModel, rate: float) -> None:
    """Drop out hidden states while the network is in training mode.

    A network with dropout of its own (BERT, GPT-2) gets this rate in it. Others (Llama, Qwen) get it where
    those have theirs: on the embeddings, and on what attention and MLP add to the hidden states. That is
    outside of attention, so every way to compute attention goes with it. Nothing of it is exported.

    Args:
        network: is changed in place.
        rate: in [0, 1).

    Raises:
        UserError: a rate outside [0, 1), or a network whose layers are not found.
    """
    if not 0 <= rate < 1:
        raise UserError(f"contrastive.dropout={rate} must be at least 0 and below 1.")
    own = [
        module
        for name, module in network.named_modules()
        if isinstance(module, nn.Dropout) and "lora_" not in name
    ]
    for dropout in own:
        dropout.p = rate
    if own:
        return
    branches = [
        part
        for layer in layers_of(network)
        for name, part in layer.named_children()
        if any(word in name for word in BRANCHES) and "norm" not in name
    ]
    if not branches:
        raise UserError(
            f"contrastive.dropout={rate}: where a {network.config.model_type} model adds to its hidden "
            "states is not known; use a model with dropout of its own."
        )

    def drop(module: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return F.dropout(output, rate, module.training)
        return (F.dropout(output[0], rate, module.training), *output[1:])

    embeddings: Any = network.get_input_embeddings()
    for module in (embeddings, *branches):
        module.register_forward_hook(drop)


def without_dropout(network: nn.Module) -> None:
    """Set every rate of dropout to 0, so that training mode computes what evaluation mode does."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # type: ignore[assignment]
