"""An ensemble of low-rank adapters and heads over one frozen backbone.

Shape legend: M members, N responses.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_rm.data.batch import FeatureRows, Rows
from rlhf_rm.models.adapter import layers_of
from rlhf_rm.models.full_ensemble import FullEnsemble
from rlhf_rm.models.reward import RewardModel


class LoRAEnsemble(FullEnsemble):
    """M reward models that share every weight that is not trained.

    Layers below the first adapted one say the same in every member: they are this ensemble's trunk, and
    run once for all members that take the same batch. The trunk has no dropout.

    Args:
        members: models with adapters in the same places. The frozen weights of the first become all
            members' own, each as it comes, so that no more than two copies are ever there.
    """

    def __init__(self, members: Iterable[RewardModel]) -> None:
        first, *others = sharing_frozen(members)
        super().__init__([first, *others])
        self._depth = _trunk_depth(first)
        self._trunk: OrderedDict[Hashable, dict[int, Any]] = OrderedDict()

    @property
    def has_trunk(self) -> bool:
        """Whether there are layers that say the same in every member."""
        return self._depth > 0

    def scores(self, rows: Rows) -> Tensor:
        """Reward of each response by each member, (N, M), float32."""
        if not self.has_trunk:
            return super().scores(rows)
        states = self._run_trunk(rows)
        return torch.stack([self._above(states, rows, m) for m in range(self.size)], dim=1)

    def member(self, rows: Rows | FeatureRows, m: int, *, batch: Hashable, part: int) -> Tensor:
        """As in the base class; the trunk's states of the last M batches are kept."""
        if not self.has_trunk or isinstance(rows, FeatureRows):
            return super().member(rows, m, batch=batch, part=part)
        kept = self._trunk.setdefault(batch, {})
        self._trunk.move_to_end(batch)
        if len(self._trunk) > self.size:
            self._trunk.popitem(last=False)
        if part not in kept:
            kept[part] = self._run_trunk(rows)
        return self._above(kept[part], rows, m)

    @torch.no_grad()
    def _run_trunk(self, rows: Rows) -> Any:
        """What the last layer of the trunk returns."""
        model = self.models[0]
        layers = layers_of(model.network)
        found: list[Any] = []
        was_training = model.training
        model.eval()
        hook = layers[self._depth - 1].register_forward_hook(lambda *call: found.append(call[-1]))
        try:
            # The layers above have nothing to say to the trunk: they pass on what they are given.
            with _returning(layers[self._depth :], lambda: found[-1]):
                model(rows)
        finally:
            hook.remove()
            model.train(was_training)
        return found[-1]

    def _above(self, states: Any, rows: Rows, m: int) -> Tensor:
        """Reward of each response by one member, from the states of the trunk on."""
        layers = layers_of(self.models[m].network)
        with _returning(layers[: self._depth], lambda: states):
            reward_N: Tensor = self.models[m](rows)
        return reward_N


@contextmanager
def _returning(layers: Sequence[nn.Module], states: Any) -> Iterator[None]:
    """Let these layers return ``states()`` without computing anything."""
    for layer in layers:
        layer.forward = lambda *_, **__: states()
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def sharing_frozen(models: Iterable[RewardModel]) -> Iterator[RewardModel]:
    """Models of one architecture with the frozen weights of the first in place of their own."""
    first: dict[str, nn.Module] = {}
    for model in models:
        first = first or dict(model.named_modules())
        for name, module in model.named_modules():
            for own, parameter in list(module.named_parameters(recurse=False)):
                if not parameter.requires_grad:
                    setattr(module, own, getattr(first[name], own))
        yield model


def _trunk_depth(model: RewardModel) -> int:
    """How many layers, from the embeddings on, hold nothing that is trained."""
    layers = layers_of(model.network)
    trained = [any(parameter.requires_grad for parameter in layer.parameters()) for layer in layers]
    embeddings: Any = model.network.get_input_embeddings()
    if embeddings.weight.requires_grad or not any(trained):
        return 0
    return trained.index(True)
