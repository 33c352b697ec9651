"""An ensemble of heads over one frozen backbone.

Shape legend: M members, N responses, D hidden size.
"""

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from rlhf_rm.data.batch import FeatureRows, Rows
from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.base import Attention
from rlhf_rm.models.reward import RewardModel


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
        last_ND = self.states(rows).float()
        self.train(was_training)
        return last_ND

    def member(self, rows: Rows | FeatureRows, m: int, *, batch: Hashable, part: int) -> Tensor:
        """See :class:`~rlhf_rm.models.ensemble.Ensemble`."""
        if not isinstance(rows, FeatureRows):
            return self.scores(rows)[:, m]
        weight_D = self.network.score.weight[m]
        # As in the head of a reward model: autocast would round rewards to 8 bits.
        with torch.autocast(weight_D.device.type, enabled=False):
            return (rows.feature_ND.to(weight_D.dtype) @ weight_D).float()

    def gradients(self, m: int) -> list[Tensor]:
        """See :class:`~rlhf_rm.models.ensemble.Ensemble`."""
        return [self.network.score.weight.grad[m]]
