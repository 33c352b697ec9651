"""A policy that learns, the critic that judges its states, and the reference that it must stay near.

Shape legend: L response tokens.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_rm.data.rollouts import TokenBatch
from rlhf_rm.errors import UserError
from rlhf_rm.models.adapter import adapted_layers
from rlhf_rm.models.dropout import without_dropout
from rlhf_rm.models.language import LanguageModel, TokenLogProbs
from rlhf_rm.models.reward import RewardModel


class ActorCritic(nn.Module):
    """Actor, critic and reference of proximal policy optimisation.

    Dropout is off in all of them: with it the policy that learns would not be the one that spoke. An actor
    with adapters is its own reference, with its adapters left out.

    Args:
        actor: the policy, as the reference is to stay.
        critic: reads the policy's tokens; the head's one value is what is expected from a token on.

    Raises:
        UserError: a critic that is an ensemble or no decoder.
    """

    def __init__(self, actor: LanguageModel, critic: RewardModel) -> None:
        super().__init__()
        if critic.size != 1 or not critic.backbone.is_decoder:
            raise UserError(
                "the critic values every token, so it must be a decoder with one head: name a reward model "
                "of that kind, or ppo.critic=policy to start it from the policy."
            )
        self.actor, self.critic = actor, critic
        whole = all(p.requires_grad for p in actor.parameters())
        for network in (actor.network, critic.network):
            without_dropout(network)
        self._reference: LanguageModel | None = None
        if whole:
            self._reference = LanguageModel(copy.deepcopy(actor.network), actor.backbone.attention)
            self._reference.requires_grad_(False)

    @property
    def parts(self) -> list[nn.Module]:
        """The models that it is made of."""
        return [part for part in (self.actor, self.critic, self._reference) if part is not None]

    @property
    def backbone(self) -> Any:
        """The actor's, by which the layout is chosen."""
        return self.actor.backbone

    def policy(self, batch: TokenBatch, *, temperature: float) -> TokenLogProbs:
        """Log-probabilities and entropies of response tokens under the actor."""
        return self.actor.token_log_probs(
            batch.rows, batch.predictor_L, batch.label_L, temperature=temperature
        )

    def values(self, batch: TokenBatch) -> Tensor:
        """What the critic expects before each response token, (L,), float32."""
        return self.critic.values(batch.rows, batch.predictor_L)

    @torch.no_grad()
    def reference_log_probs(self, batch: TokenBatch, *, temperature: float) -> Tensor:
        """Log-probabilities of response tokens under the reference, (L,)."""
        with self.reference() as reference:
            return reference.token_log_probs(
                batch.rows, batch.predictor_L, batch.label_L, temperature=temperature
            ).log_prob_L

    @contextmanager
    def reference(self) -> Iterator[LanguageModel]:
        """The policy as it was before it learnt."""
        if self._reference is not None:
            yield self._reference
            return
        adapted = adapted_layers(self.actor).values()
        try:
            for module in adapted:
                module.enable_adapters(False)
            yield self.actor
        finally:
            for module in adapted:
                module.enable_adapters(True)
