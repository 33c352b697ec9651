"""A causal language model over packed rows.

Shape legend: R rows, T tokens of a row, L labelled tokens, D hidden size, V vocabulary.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from rlhf_rm.data.batch import Rows, TextBatch
from rlhf_rm.errors import UserError, first_line
from rlhf_rm.models.attention.base import Attention
from rlhf_rm.models.backbone import Backbone

log = logging.getLogger(__name__)

# Logits that are there at once: 64 MiB in float32.
LOGITS = 2**24
# By so many of the last bits of the largest logit may two ways to compute the same logits differ.
ROUNDINGS = 4


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

    Raises:
        UserError: the network makes more of its logits than :func:`logits` knows of.
    """

    passes: ClassVar[tuple[str, ...]] = ("token_log_probs",)

    def __init__(self, network: PreTrainedModel, attention: Attention) -> None:
        super().__init__()
        _refuse_other_logits(network)
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
        logits_LV = logits(self.network, hidden_LD)
        return F.cross_entropy(logits_LV.float(), label[labelled], reduction="none")

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
        logits_LV = logits(self.network, hidden_LD).float() / temperature
        log_prob_LV = logits_LV.log_softmax(-1)
        entropy_L = -(log_prob_LV.exp() * log_prob_LV).sum(-1)
        return log_prob_LV.gather(1, label_L.unsqueeze(1)).squeeze(1), entropy_L


def logits(network: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits (…, V) of final hidden states (…, D), those that the network itself computes.

    They are what the head says, and what some architectures make of that as their configuration tells:
    Cohere's are multiplied, Granite's divided, and those of Gemma 2 kept softly within a bound.
    """
    config: Any = network.config.get_text_config()
    found: Tensor = network.get_output_embeddings()(hidden)
    factor, divisor, bound = (
        getattr(config, name, None) for name in ("logit_scale", "logits_scaling", "final_logit_softcapping")
    )
    if factor is not None:
        found = found * factor
    if divisor is not None:
        found = found / divisor
    return found if bound is None else torch.tanh(found / bound) * bound


@torch.no_grad()
def _refuse_other_logits(network: Any) -> None:
    """Compare :func:`logits` with the network's own on a short row, while its weights are whole.

    Raises:
        UserError: they differ by more than rounding.
    """
    kind = network.config.model_type
    ids_RT = torch.arange(1, 5, device=network.device)[None]
    try:
        # A program that is compiled for this row would serve no other.
        with evaluating(network), torch.compiler.set_stance("force_eager"):
            ours = logits(network, network.base_model(input_ids=ids_RT).last_hidden_state)
            theirs = network(input_ids=ids_RT).logits
    except Exception as error:  # by any code, that of the hub too: some kinds run on a GPU alone
        log.warning(
            "whether a %s model does more to its logits than is known could not be checked on %s (%s)",
            kind,
            network.device,
            first_line(error),
        )
        return
    same = ours.shape == theirs.shape
    difference = float((ours.float() - theirs.float()).abs().max()) if same else torch.inf
    if difference > ROUNDINGS * torch.finfo(ours.dtype).eps * float(theirs.abs().max()):
        raise UserError(
            f"the logits of a {kind} model are not those of its head, scaled and soft-capped as its "
            f"configuration says (they differ by {difference:.2g}), so its log-probabilities would be wrong: "
            "use a model of another architecture, such as llama, qwen3, gemma2, granite or cohere."
        )


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """All of a network is in evaluation mode, and afterwards each part as it was."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
