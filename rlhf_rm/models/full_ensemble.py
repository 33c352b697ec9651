"""An ensemble of whole reward models.

Shape legend: M members, N responses.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_rm.data.batch import FeatureRows, Rows
from rlhf_rm.models.backbone import Backbone
from rlhf_rm.models.reward import RewardModel


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
        """See :class:`~rlhf_rm.models.ensemble.Ensemble`."""
        return len(self.members)

    @property
    def backbone(self) -> Backbone:
        """See :class:`~rlhf_rm.models.ensemble.Ensemble`."""
        return self.models[0].backbone

    @property
    def models(self) -> list[RewardModel]:
        """The members as what they are."""
        models: Any = self.members
        return list(models)

    def scores(self, rows: Rows) -> Tensor:
        """See :class:`~rlhf_rm.models.ensemble.Ensemble`."""
        return torch.stack([model(rows) for model in self.models], dim=1)

    def forward(self, rows: Rows) -> Tensor:
        """Mean reward of each response over the members, (N,)."""
        return self.scores(rows).mean(1)

    def member(self, rows: Rows | FeatureRows, m: int, *, batch: Hashable, part: int) -> Tensor:
        """See :class:`~rlhf_rm.models.ensemble.Ensemble`."""
        reward_N: Tensor = self.models[m](rows)
        return reward_N

    def gradients(self, m: int) -> list[Tensor]:
        """See :class:`~rlhf_rm.models.ensemble.Ensemble`."""
        return [p.grad for p in self.models[m].parameters() if p.grad is not None]
