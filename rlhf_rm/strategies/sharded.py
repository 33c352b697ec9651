"""What every strategy that spreads a model's training over ranks in shards can be asked for."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf_rm.models.adapter import adapted_layers


class Sharded(ABC):
    """Ranks work together in every pass: all must run as many in each step.

    See :meth:`~rlhf_rm.methods.step.StepModule.evened`.
    """

    @abstractmethod
    def shard(self, model: nn.Module) -> None:
        """Prepare a model to lie in shards, once its weights are there."""

    @abstractmethod
    def whole(self, module: Any) -> dict[str, Tensor]:
        """The whole weights, on the CPU of rank 0; nothing on the others. All ranks must ask."""

    @abstractmethod
    def load_whole(self, module: Any, weights: Mapping[str, Tensor]) -> None:
        """Give each rank its share of whole weights, which every rank has; those left out stay."""

    @abstractmethod
    def whole_network(self, model: Any) -> PreTrainedModel:
        """A model's network as it is now, to draw responses from on every rank. All ranks must ask."""


def disable_alike(made: nn.Module, network: nn.Module) -> None:
    """Leave out the adapters of a copy that was made earlier where the network leaves out its own."""
    copies = adapted_layers(made)
    for name, layer in adapted_layers(network).items():
        copies[name].enable_adapters(not layer.disable_adapters)


def without_weights(network: PreTrainedModel) -> PreTrainedModel:
    """A copy of a network whose weights take no memory."""
    weights = {id(one): nn.Parameter(one.to("meta"), one.requires_grad) for one in network.parameters()}
    return copy.deepcopy(network, memo=dict(weights))
