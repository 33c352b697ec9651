"""The reward model: a `transformers` sequence classifier with one label, over packed rows.

Shape legend: R rows, T tokens of a row, N responses, D hidden size.
"""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf_rm.data.batch import Rows
from rlhf_rm.errors import UserError
from rlhf_rm.models.attention import Attention
from rlhf_rm.models.backbone import Backbone


class RewardModel(nn.Module):
    """Scalar rewards of packed responses.

    Wraps an ``AutoModelForSequenceClassification`` with ``num_labels=1``, so what is trained is what
    is exported. Decoders take the state of each response's last token, found by its length and never
    by the pad id; encoders use their own pooling for sequence classification.

    Args:
        network: the classifier; its head is called ``score`` in decoders.
        attention: how attention over packed rows is computed.

    Raises:
        UserError: the network has more than one label.
    """

    def __init__(self, network: PreTrainedModel, attention: Attention) -> None:
        super().__init__()
        if network.config.num_labels != 1:
            raise UserError(
                f"{network.config.name_or_path or 'the model'} has {network.config.num_labels} labels, "
                "but a reward model has one: choose a model with num_labels=1 or a bare language model."
            )
        self.network: Any = network
        is_decoder = isinstance(getattr(network, "score", None), nn.Linear)
        self.backbone = Backbone(network, attention, is_decoder=is_decoder)

    def forward(self, rows: Rows) -> Tensor:
        """Reward of each response, (N,), float32."""
        if self.backbone.is_decoder:
            last_ND = self.backbone.hidden(rows).flatten(0, 1)[rows.last_N]
            reward_N: Tensor = self.network.score(last_ND)
            return reward_N.squeeze(-1).float()
        if "packed" not in self.backbone.layouts:
            logits: Tensor = self.network(**self.backbone.inputs(rows)).logits
            return logits.squeeze(-1).float()
        first_ND = self.backbone.hidden(rows).flatten(0, 1)[rows.first_N]
        return self._encoder_head(first_ND).squeeze(-1).float()

    def _encoder_head(self, first_ND: Tensor) -> Tensor:
        """An encoder's own pooling and head, on the states of the responses' first tokens."""
        if self.network.config.model_type == "bert":
            pooled = self.network.bert.pooler(first_ND.unsqueeze(1))
            return self.network.classifier(self.network.dropout(pooled))
        return self.network.classifier(first_ND.unsqueeze(1))
