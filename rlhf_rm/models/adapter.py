"""What of a network is trained: all of it, or low-rank adapters and the head."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf_rm.errors import UserError

NAME = "default"
# Parts of a backbone that only the head reads: trained with it, at full rank.
HEAD_PARTS = ("pooler",)


class Adapter(Protocol):
    """Decides which weights of a network are trained."""

    @property
    def learning_rate(self) -> float:
        """What such training usually takes; the optimiser's default."""
        ...

    def loading(self, dtype: torch.dtype) -> dict[str, Any]:
        """What ``from_pretrained`` is told beside the usual.

        Args:
            dtype: of the weights.
        """
        ...

    def apply(self, network: PreTrainedModel, *, train_head: bool) -> None:
        """Change the network in place.

        Args:
            network: a model with a head.
            train_head: whether the head is new, as a reward model's is, and has to be learnt.
        """
        ...


@dataclass(frozen=True)
class NoAdapter:
    """Train every weight.

    Args:
        learning_rate: see :class:`Adapter`.
    """

    learning_rate: float

    def loading(self, dtype: torch.dtype) -> dict[str, Any]:
        """Nothing."""
        return {}

    def apply(self, network: PreTrainedModel, *, train_head: bool) -> None:
        """Leave the network as it is."""


@dataclass(frozen=True)
class LoRA:
    """Train low-rank updates of the backbone's matrices, and the head at full rank.

    The layers are those of `peft`, put into the network in place, so that its backbone and head stay
    where every caller expects them. The head is no adapter: it is trained, saved and exported whole.
    Source: Hu et al. 2021 (arXiv 2106.09685).

    Args:
        r: rank.
        alpha: the update is scaled by alpha / r.
        dropout: on the input of each update.
        targets: names of the modules to adapt, or their endings; None takes every linear layer of the
            backbone.
        top_layers: how many of the backbone's layers to adapt, counted from the head; None takes all.
        learning_rate: see :class:`Adapter`.
    """

    r: int
    alpha: float
    dropout: float
    targets: list[str] | None
    top_layers: int | None
    learning_rate: float

    def loading(self, dtype: torch.dtype) -> dict[str, Any]:
        """Nothing."""
        return {}

    def apply(self, network: PreTrainedModel, *, train_head: bool) -> None:
        """Freeze the network, add the adapters, and leave the head trainable if it is new.

        What is trained is float32, whatever the dtype of the frozen weights: in bfloat16 small steps would
        round to nothing.

        Raises:
            UserError: a setting out of its range, or no module of the names in ``targets``.
        """
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel
        from peft.tuners.lora.layer import Linear

        from rlhf_rm.models.lora_linear import LoRALinear

        if self.r < 1 or not 0 <= self.dropout < 1:
            raise UserError(
                f"adapter.r={self.r} must be at least 1 and adapter.dropout={self.dropout} in [0, 1)."
            )
        head = _head_parameters(network) if train_head else set()
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # any number will do
            lora_dropout=self.dropout,
            target_modules=self._targets(network),
        )
        network.requires_grad_(False)
        LoraModel(network, {NAME: config}, NAME)
        for module in network.modules():
            if type(module) is Linear and type(module.get_base_layer()) is nn.Linear:
                module.__class__ = LoRALinear
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in head or "lora_" in name)
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        for module in {network.get_submodule(name.rpartition(".")[0]) for name in head}:
            module.register_forward_pre_hook(_in_own_dtype)

    def _targets(self, network: PreTrainedModel) -> list[str]:
        linear = self._within(network, _linear_layers(network))
        if self.targets is None:
            return linear
        chosen = [name for name in linear if any(f".{name}".endswith(f".{end}") for end in self.targets)]
        if not chosen:
            endings = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise UserError(
                f"adapter.targets={self.targets} names no linear layer of the backbone: use some of "
                f"{', '.join(endings)}, or null for all."
            )
        return chosen

    def _within(self, network: PreTrainedModel, linear: list[str]) -> list[str]:
        """Those of these modules that lie in the layers to adapt."""
        if self.top_layers is None:
            return linear
        layers = layers_of(network)
        if not 1 <= self.top_layers <= len(layers):
            raise UserError(
                f"adapter.top_layers={self.top_layers} must be from 1 to {len(layers)}, the layers of this "
                "model, or null for all."
            )
        inside = {id(part) for layer in layers[-self.top_layers :] for part in layer.modules()}
        return [name for name in linear if id(network.get_submodule(name)) in inside]


def _in_own_dtype(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Let a part of the head compute in the dtype of its weights; adapters do so themselves."""
    weight = next(module.parameters(recurse=False))
    return (inputs[0].to(weight.dtype), *inputs[1:])


def layers_of(network: PreTrainedModel) -> list[nn.Module]:
    """The layers of the backbone, from the embeddings to the head; empty where it keeps them elsewhere."""
    count = getattr(network.config, "num_hidden_layers", None)
    for module in network.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    return []


def adapted_layers(network: nn.Module) -> dict[str, Any]:
    """The layers of a network that have adapters, by their names in it."""
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in network.named_modules() if isinstance(module, LoraLayer)}


def merged_state(network: PreTrainedModel) -> dict[str, Tensor]:
    """The network's weights with its adapters merged in, under the names of a network without any.

    An adapter that is disabled, as a policy's are while it is its own reference, is left out, so that the
    weights are always those of what the network computes. Weights that are kept in 4 bits are widened. The
    network itself stays as it is.
    """
    base: Any = network.base_model
    modules: dict[str, Any] = dict(network.named_modules())
    adapted = adapted_layers(network)
    # Trained in float32, whatever the others are.
    head = {name for name, parameter in network.named_parameters() if adapted and parameter.requires_grad}
    merged = {}
    for name, value in network.state_dict().items():
        owner, _, last = name.rpartition(".")
        # A quantised weight comes with its scales, which lie under its own name.
        if ".lora_" in name or owner not in modules:
            continue
        whole = widened(getattr(modules[owner], last)) if last == "weight" else value
        layer = adapted.get(owner.removesuffix(".base_layer"))
        if layer is not None and last == "weight" and not layer.disable_adapters:
            update = layer.get_delta_weight(NAME).float()
            whole = (whole.float() + update).to(whole.dtype)
        if name in head:
            whole = whole.to(base.dtype)
        merged[name.replace(".base_layer.", ".")] = whole.detach()
    return merged


def widened(weight: Tensor) -> Tensor:
    """A weight of 4 bits as the numbers that it stands for; any other as it is."""
    state = getattr(weight, "quant_state", None)
    if state is None:
        return weight
    from bitsandbytes.functional import dequantize_4bit

    wide: Tensor = dequantize_4bit(weight.data, state)
    return wide


def _linear_layers(network: PreTrainedModel) -> list[str]:
    """Names of the backbone's linear layers but those that only the head reads."""
    prefix = network.base_model_prefix
    return [
        f"{prefix}.{name}"
        for name, module in network.base_model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and name.split(".", 1)[0] not in HEAD_PARTS
    ]


def _head_parameters(network: PreTrainedModel) -> set[str]:
    """Names of the parameters of the head, and of what only it reads."""
    prefix = f"{network.base_model_prefix}."
    return {
        name
        for name, _ in network.named_parameters()
        if not name.startswith(prefix) or name.removeprefix(prefix).split(".", 1)[0] in HEAD_PARTS
    }
