"""A causal language model over packed rows.

Shape legend: R rows, T tokens of a row, L labelled tokens, D hidden size, V vocabulary.
"""

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from rlhf_rm.data.batch import Rows, TextBatch
from rlhf_rm.models.attention.base import Attention
from rlhf_rm.models.backbone import Backbone

# Logits that are there at once: 64 MiB in float32.
LOGITS = 2**24


class TokenLogProbs(NamedTuple):
    """What a language model says of tokens.

    Args:
        log_prob_L: log-probability of each token, in nats, (L,), float32.
        entropy_L: of the distribution that it was drawn from, in nats, (L,), float32.
    """

    log_prob_L: Tensor
    entropy_L: Tensor


class LanguageModel(nn.Module):
    """Token log-probabilities of packed dialogues.

    Args:
        network: an ``AutoModelForCausalLM``.
        attention: how attention over packed rows is computed.

    Attributes:
        passes: methods beside ``forward`` that run the network.
    """

    passes: ClassVar[tuple[str, ...]] = ("token_log_probs",)

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

    def token_log_probs(
        self, rows: Rows, predictor_L: Tensor, label_L: Tensor, *, temperature: float
    ) -> TokenLogProbs:
        """Log-probabilities of tokens, and the entropies of what they were drawn from.

        Logits are taken of these tokens alone and some at a time, and computed again in the backward pass
        where they do not fit at once: with a large vocabulary all of them would be most of the memory.

        Args:
            rows: packed dialogues.
            predictor_L: flat index of the token whose state predicts each.
            label_L: the tokens.
            temperature: logits are divided by it, as when sampling.
        """
        hidden_LD = self.backbone.hidden(rows).flatten(0, 1)[predictor_L]
        vocabulary = int(self.network.get_output_embeddings().weight.shape[0])
        size = max(1, LOGITS // vocabulary)
        pieces = list(zip(hidden_LD.split(size), label_L.split(size), strict=True))
        found = []
        for hidden, label in pieces:
            if len(pieces) > 1 and torch.is_grad_enabled():
                found.append(checkpoint(self._log_probs, hidden, label, temperature, use_reentrant=False))
            else:
                found.append(self._log_probs(hidden, label, temperature))
        return TokenLogProbs(*(torch.cat(column) for column in zip(*found, strict=True)))

    def _log_probs(self, hidden_LD: Tensor, label_L: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        logits_LV = self.network.get_output_embeddings()(hidden_LD).float() / temperature
        log_prob_LV = logits_LV.log_softmax(-1)
        entropy_L = -(log_prob_LV.exp() * log_prob_LV).sum(-1)
        return log_prob_LV.gather(1, label_L.unsqueeze(1)).squeeze(1), entropy_L
