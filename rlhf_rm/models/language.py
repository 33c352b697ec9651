"""A causal language model over packed rows.

Shape legend: R rows, T tokens of a row, L labelled tokens.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf_rm.data.batch import TextBatch
from rlhf_rm.models.attention import Attention
from rlhf_rm.models.backbone import Backbone


class LanguageModel(nn.Module):
    """Token log-probabilities of packed dialogues.

    Args:
        network: an ``AutoModelForCausalLM``.
        attention: how attention over packed rows is computed.
    """

    def __init__(self, network: PreTrainedModel, attention: Attention) -> None:
        super().__init__()
        self.network = network
        self.backbone = Backbone(network, attention, is_decoder=True)

    def forward(self, batch: TextBatch) -> Tensor:
        """Cross entropy of each labelled token, (L,), float32, in nats.

        Logits are taken at labelled positions alone: those of prompts and padding, often most of a
        row, are never computed.
        """
        label = batch.label_RT.flatten()
        labelled = label >= 0
        hidden_LD = self.backbone.hidden(batch.rows).flatten(0, 1)[labelled]
        logits = self.network.get_output_embeddings()(hidden_LD)
        return F.cross_entropy(logits.float(), label[labelled], reduction="none")
