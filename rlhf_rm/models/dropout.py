"""Hidden dropout in models that have none of their own, and none in models that have."""

import inspect
from collections.abc import Callable
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

    A network with dropout of its own (BERT, GPT-2, OPT) gets this rate in it. Others (Llama, Qwen) get it
    where those have theirs: on the embeddings, and on what attention and MLP add to the hidden states. That
    is outside of attention, so every way to compute attention goes with it. Nothing of it is exported.

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
    hidden = [_set_rates(module, rate, _is_hidden_rate) for module in network.modules()]
    if own or any(hidden):
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
    """Set every rate of dropout to 0, so that training mode computes what evaluation mode does.

    The network's configuration stays as it is.
    """
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        _set_rates(module, 0.0, _is_rate)


class OtherRates:
    """A configuration as a module reads it, with other rates of dropout; the configuration itself stays.

    Args:
        config: whatever else is asked is its answer.
        rates: of each name.
    """

    def __init__(self, config: Any, rates: dict[str, float]) -> None:
        self._config, self._rates = config, rates

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_config", "_rates"):  # asked while a copy is made
            raise AttributeError(name)
        return self._rates[name] if name in self._rates else getattr(self._config, name)


def _set_rates(module: nn.Module, rate: float, which: Callable[[nn.Module, str, Any], bool]) -> bool:
    """Set the rates of dropout that a module calls functions with; whether it has any.

    They lie in its attributes, or it reads them from its configuration at each pass, as Falcon does.
    """
    own = [name for name, value in vars(module).items() if which(module, name, value)]
    for name in own:
        setattr(module, name, rate)
    config = getattr(module, "config", None)
    if config is None or isinstance(module, PreTrainedModel):  # this one's configuration is what is stored
        return bool(own)
    names = inspect.unwrap(type(module).forward).__code__.co_names
    read = [name for name in names if which(module, name, getattr(config, name, None))]
    if "config" in names and read:
        module.config = OtherRates(config, dict.fromkeys(read, rate))  # type: ignore[assignment]
    return bool(own or read)


def _is_rate(module: nn.Module, name: str, value: Any) -> bool:
    """Whether an attribute is a rate of dropout, of whole layers too."""
    return isinstance(value, float) and "drop" in name


def _is_hidden_rate(module: nn.Module, name: str, value: Any) -> bool:
    """Whether it is one of hidden states, and not of attention weights or of whole layers."""
    in_attention = name == "dropout" and "Attention" in type(module).__name__
    of_weights = in_attention or "attention" in name or "attn" in name
    return _is_rate(module, name, value) and not of_weights and "layer" not in name
