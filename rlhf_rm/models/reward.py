"""The reward model: a `transformers` sequence classifier with one label, over packed rows.

Shape legend: R rows, T tokens of a row, N responses, M members, D hidden size.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf_rm.data.batch import Rows
from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.base import Attention
from rlhf_rm.models.backbone import Backbone

MEMBER = "member_"  # how the labels of an ensemble of heads begin


class RewardModel(nn.Module):
    """Scalar rewards of packed responses.

    Wraps an ``AutoModelForSequenceClassification`` with ``num_labels=1``, so what is trained is what
    is exported. Decoders take the state of each response's last token, found by its length and never
    by the pad id; encoders use their own pooling for sequence classification.

    Args:
        network: the classifier; its head is called ``score`` in decoders.
        attention: how attention over packed rows is computed.

    Raises:
        UserError: the network has more than one label, and they are no members of an ensemble.

    Attributes:
        passes: methods beside ``forward`` that run the network; none of them calls another.
    """

    passes: ClassVar[tuple[str, ...]] = ("states", "read", "values")

    def __init__(self, network: PreTrainedModel, attention: Attention) -> None:
        super().__init__()
        labels = list((network.config.id2label or {}).values())
        if network.config.num_labels != 1 and not all(str(one).startswith(MEMBER) for one in labels):
            raise UserError(
                f"{network.config.name_or_path or 'the model'} has {network.config.num_labels} labels, "
                "but a reward model has one: choose a model with num_labels=1 or a bare language model."
            )
        self.network: Any = network
        is_decoder = isinstance(getattr(network, "score", None), nn.Linear)
        self.backbone = Backbone(network, attention, is_decoder=is_decoder)

    @property
    def size(self) -> int:
        """Number of members, M: 1 but for an ensemble of heads."""
        return int(self.network.config.num_labels)

    def forward(self, rows: Rows) -> Tensor:
        """Reward of each response, (N,), float32; of an ensemble of heads, their mean."""
        return self.scores(rows).mean(-1)

    def scores(self, rows: Rows) -> Tensor:
        """Reward of each response by each member, (N, M), float32."""
        if self.has_states:
            return self.head(self._states(rows))
        logits_NM: Tensor = self.network(**self.backbone.inputs(rows)).logits
        return logits_NM.float()

    @property
    def has_states(self) -> bool:
        """Whether the head is known to be a function of one token's state."""
        return self.backbone.is_decoder or "packed" in self.backbone.layouts

    @property
    def state_size(self) -> int:
        """Width of what the head reads, D; in some decoders it is not that of the layers."""
        network = self.network
        return int(network.score.in_features if self.backbone.is_decoder else network.config.hidden_size)

    def states(self, rows: Rows) -> Tensor:
        """What the head reads of each response, (N, D): its last token's state, in encoders its first."""
        return self._states(rows)

    def read(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """States of the responses, (N, D), and their scores, (N, M), by one pass."""
        state_ND = self._states(rows)
        return state_ND, self.head(state_ND)

    def values(self, rows: Rows, token_L: Tensor) -> Tensor:
        """What the head says of tokens, (L,), float32, as if each were the last.

        Args:
            rows: packed responses.
            token_L: flat index of each token.
        """
        return self.head(self.backbone.hidden(rows).flatten(0, 1)[token_L]).squeeze(1)

    def _states(self, rows: Rows) -> Tensor:
        token_N = rows.last_N if self.backbone.is_decoder else rows.first_N
        return self.backbone.hidden(rows).flatten(0, 1)[token_N]

    def head(self, state_ND: Tensor) -> Tensor:
        """Scores of states, (N, M), float32, an encoder's pooling included.

        Computed in the dtype of its weights: autocast would round rewards to 8 bits, and near ones would tie.
        """
        network = self.network
        with torch.autocast(state_ND.device.type, enabled=False):
            part = network.score if self.backbone.is_decoder else network.classifier
            state_ND = state_ND.to(next(part.parameters()).dtype)
            if self.backbone.is_decoder:
                scores_NM: Tensor = network.score(state_ND)
            elif network.config.model_type == "bert":
                pooled = network.bert.pooler(state_ND.unsqueeze(1))
                scores_NM = network.classifier(network.dropout(pooled))
            else:
                scores_NM = network.classifier(state_ND.unsqueeze(1))
        return scores_NM.float()
