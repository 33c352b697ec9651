"""Ensembles of reward models that are trained together.

Shape legend: M members, N responses, D hidden size.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from rlhf_rm.data.batch import FeatureRows, Rows
from rlhf_rm.errors import UserError
from rlhf_rm.models.adapter import NoAdapter
from rlhf_rm.models.attention import Attention
from rlhf_rm.models.backbone import Backbone
from rlhf_rm.models.reward import RewardModel
from rlhf_rm.models.spec import ModelSpec

KINDS = ("full", "head")


class Ensemble(Protocol):
    """Members that share a data module and an optimiser, and nothing that is trained."""

    @property
    def size(self) -> int:
        """Number of members, M."""
        ...

    @property
    def backbone(self) -> Backbone:
        """What says which layouts are possible."""
        ...

    def scores(self, rows: Rows) -> Tensor:
        """Reward of each response by each member, (N, M), float32."""
        ...

    def member(self, rows: Rows | FeatureRows, m: int) -> Tensor:
        """Reward of each response by one member, (N,), float32."""
        ...

    def gradients(self, m: int) -> list[Tensor]:
        """The gradients of one member's weights, to be changed in place."""
        ...


class FullEnsemble(nn.Module):
    """M reward models of their own.

    Args:
        members: the models.
    """

    def __init__(self, members: Sequence[RewardModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def size(self) -> int:
        """See :class:`Ensemble`."""
        return len(self.members)

    @property
    def backbone(self) -> Backbone:
        """See :class:`Ensemble`."""
        return self.models[0].backbone

    @property
    def models(self) -> list[RewardModel]:
        """The members as what they are."""
        models: Any = self.members
        return list(models)

    def scores(self, rows: Rows) -> Tensor:
        """See :class:`Ensemble`."""
        return torch.stack([model(rows) for model in self.models], dim=1)

    def forward(self, rows: Rows) -> Tensor:
        """Mean reward of each response over the members, (N,)."""
        return self.scores(rows).mean(1)

    def member(self, rows: Rows | FeatureRows, m: int) -> Tensor:
        """See :class:`Ensemble`."""
        reward_N: Tensor = self.models[m](rows)
        return reward_N

    def gradients(self, m: int) -> list[Tensor]:
        """See :class:`Ensemble`."""
        return [p.grad for p in self.models[m].parameters() if p.grad is not None]


class HeadEnsemble(RewardModel):
    """One frozen backbone and M heads: a classifier of M labels, each of them a member's reward.

    Args:
        network: a decoder whose head has M outputs.
        attention: how attention over packed rows is computed.

    Raises:
        UserError: the network's head is not one linear layer.
    """

    def __init__(self, network: Any, attention: Attention) -> None:
        super().__init__(network, attention)
        if not self.backbone.is_decoder:
            raise UserError(
                f"members.kind=head needs a decoder, whose head is one linear layer, and not a "
                f"{network.config.model_type} model: use members.kind=full."
            )
        network.requires_grad_(False)
        network.score.requires_grad_(True)

    @torch.inference_mode()
    def features(self, rows: Rows) -> Tensor:
        """What the heads read of each response, (N, D), float32, without dropout."""
        was_training = self.training
        self.eval()
        last_ND = self.last_states(rows).float()
        self.train(was_training)
        return last_ND

    def member(self, rows: Rows | FeatureRows, m: int) -> Tensor:
        """See :class:`Ensemble`."""
        if not isinstance(rows, FeatureRows):
            return self.scores(rows)[:, m]
        return (rows.feature_ND.to(self.network.score.weight.dtype) @ self.network.score.weight[m]).float()

    def gradients(self, m: int) -> list[Tensor]:
        """See :class:`Ensemble`."""
        return [self.network.score.weight.grad[m]]


def ensemble_model(
    spec: ModelSpec,
    tokenizer: PreTrainedTokenizerBase,
    attention: Attention,
    start: str | Path | None = None,
    *,
    kind: str,
    size: int,
    seed: int,
) -> FullEnsemble | HeadEnsemble:
    """The members of an ensemble, each with a head initialisation of its own.

    Args:
        spec, tokenizer, attention, start: see :meth:`ModelSpec.reward_model`.
        kind: ``full`` (models of their own) or ``head`` (heads over one frozen backbone).
        size: number of members, at least 2.
        seed: of their initialisation.

    Raises:
        UserError: an unknown kind, fewer than two members, or an adapter where the backbone is frozen.
    """
    if kind not in KINDS:
        raise UserError(f"members.kind={kind} is unknown: use one of {', '.join(KINDS)}.")
    if size < 2:
        raise UserError(f"members.size={size}: a vote takes at least 2 members.")
    if kind == "head":
        if not isinstance(spec.adapter, NoAdapter):
            raise UserError("members.kind=head trains heads alone: leave the adapter out, adapter=none.")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = spec.classifier(tokenizer, attention, start, labels=size)
        return HeadEnsemble(network, attention)
    members = []
    for m in range(size):
        with torch.random.fork_rng():
            torch.manual_seed(seed * 1000 + m)
            members.append(spec.reward_model(tokenizer, attention, start))
    return FullEnsemble(members)
