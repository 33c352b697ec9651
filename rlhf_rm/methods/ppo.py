"""Proximal policy optimisation of a language model on a reward model.

Shape legend: L response tokens of one forward pass.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_rm.data.batch import Step, TextBatch
from rlhf_rm.data.prompts import PromptStep
from rlhf_rm.data.rollouts import Rollouts, TokenBatch
from rlhf_rm.errors import UserError
from rlhf_rm.functional.ppo import divergence, policy_loss, value_loss
from rlhf_rm.methods.policy import PolicyModule
from rlhf_rm.methods.ppo_settings import Objective
from rlhf_rm.methods.step import parameter_groups


class PPOModule(PolicyModule):
    """Trains an actor and its critic on the rewards of the actor's own responses.

    Source: paper, section 5, and the sources in :mod:`rlhf_rm.functional.ppo`. One optimiser has both, in
    groups with learning rates of their own; their gradients are clipped apart.

    Args:
        objective: what a step minimises.
        args, kwargs: see :class:`PolicyModule`.
    """

    def __init__(self, *args: Any, objective: Objective, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.objective = objective
        self.work = (0, 0)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Those of the actor, and those of the critic with a learning rate of their own."""
        critic = parameter_groups(self.model.critic)
        rate = self.objective.critic_learning_rate
        return parameter_groups(self.model.actor) + [{**group, "lr": rate} for group in critic]

    def clipped_together(self) -> dict[str, list[nn.Parameter]]:
        """Actor and critic apart: the greater gradient of one would shrink the other's."""
        parts = {"grad_norm": self.model.actor, "critic_grad_norm": self.model.critic}
        return {name: [p for p in part.parameters() if p.requires_grad] for name, part in parts.items()}

    def on_fit_start(self) -> None:
        """As in the base class; refuses dialogues beside without a weight, and a weight without dialogues.

        Raises:
            UserError: see above.
        """
        super().on_fit_start()
        weight, texts = self.objective.text_weight, self._datamodule.texts
        if (weight > 0) != (texts > 0):
            raise UserError(
                f"ppo.pretraining_dialogues={texts} and ppo.objective.text_weight={weight} go together: give "
                "both, or leave both at 0."
            )

    def training_step(self, step: PromptStep, batch_idx: int) -> None:
        """One optimiser step; at the beginning of an iteration the responses come first."""
        if step.begins or self.rollouts is None:
            self.begin(step)
        assert self.rollouts is not None
        rollouts = self.rollouts
        batches = self.token_batches(rollouts, step.part)
        tokens = torch.tensor(float(sum(len(batch.label_L) for batch in batches)), device=self.device)
        texts = self.evened(step.texts, TextBatch.idle)
        text_weight = self._text_weight(texts, tokens)
        parts: dict[str, list[Tensor]] = {}

        def loss_sum(part: TokenBatch | TextBatch) -> Tensor:
            if isinstance(part, TextBatch):
                return self.model.actor(part).sum() * text_weight
            return self._loss(part, rollouts, parts)

        # DDP waits in the last pass for a gradient of everything, and dialogues give the critic none.
        self.step(Step((*texts, *batches)), tokens, loss_sum, list)
        self._log_step(parts, tokens)
        self.work = (len(step.part), sum(batch.rows.tokens for batch in batches))

    def _text_weight(self, texts: Step[TextBatch], tokens: Tensor) -> Tensor:
        """Of a token that is imitated, among response tokens: all of all ranks make ``text_weight`` means."""
        if not self._datamodule.texts:
            return torch.zeros((), device=self.device)
        labels = torch.tensor(
            float(sum(int((text.label_RT >= 0).sum()) for text in texts)), device=self.device
        )
        tokens, labels = self.sum_over_ranks(torch.stack([tokens, labels]))
        return self.objective.text_weight * tokens / labels.clamp(min=1)

    def _loss(self, batch: TokenBatch, rollouts: Rollouts, parts: dict[str, list[Tensor]]) -> Tensor:
        """Sum of the losses of a micro-batch's tokens; what is logged of them is added to ``parts``."""
        old_L, advantage_L, value_L, return_L = (
            batch.of(column.to(self.device))
            for column in (rollouts.old_NT, rollouts.advantage_NT, rollouts.value_NT, rollouts.return_NT)
        )
        objective = self.objective
        spoken = self.model.policy(batch, temperature=self.sampling.temperature)
        values = self.model.values(batch)
        policy_L = policy_loss(spoken.log_prob_L, old_L, advantage_L, clip=objective.clip)
        critic_L = value_loss(values, value_L, return_L, clip=objective.value_clip)
        with torch.no_grad():
            ratio_L = (spoken.log_prob_L - old_L).exp()
            for name, value in {
                "policy_loss": policy_L,
                "value_loss": critic_L,
                "entropy": spoken.entropy_L,
                "approx_kl": divergence(spoken.log_prob_L, old_L),
                "clip_fraction": ((ratio_L - 1).abs() > objective.clip).float(),
                "value_error": (values - return_L).abs(),
            }.items():
                parts.setdefault(name, []).append(value.detach().sum())
        loss_L = policy_L + objective.value_weight * critic_L - objective.entropy_weight * spoken.entropy_L
        return loss_L.sum()

    def _log_step(self, parts: Mapping[str, list[Tensor]], tokens: Tensor) -> None:
        """Means over the tokens of all ranks, and those of the iteration."""
        sums = torch.stack([torch.stack(values).sum() for values in parts.values()])
        means = (self.sum_over_ranks(sums) / self.sum_over_ranks(tokens)).tolist()
        for name, value in zip(parts, means, strict=True):
            self.log(f"train/{name}", value)
        for name, value in self.history[-1].items():
            if isinstance(value, float):
                self.log(f"train/{name}", value, prog_bar=name in ("reward", "kl"))
