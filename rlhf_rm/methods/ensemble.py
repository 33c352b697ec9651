"""Ensembles of reward models, trained together for a vote.

Shape legend: M members, B pairs, N responses.
"""

import hashlib
import json
from typing import Any

import torch
from torch import Tensor

from rlhf_rm.data.batch import PairBatch, Rows, Step
from rlhf_rm.data.ensemble import EnsembleStep
from rlhf_rm.methods.reward import RewardModule
from rlhf_rm.models.ensemble import Ensemble
from rlhf_rm.models.head_ensemble import HeadEnsemble
from rlhf_rm.models.lora_ensemble import LoRAEnsemble


class EnsembleRewardModule(RewardModule):
    """Trains M members at once, each on its own order of the data and clipped by itself.

    A step of the optimiser is a step of every member, as if each had been trained alone. What is
    validated and tested is the mean of their rewards. Source: paper, section 2.1.
    """

    shards = False
    zero = False

    @property
    def ensemble(self) -> Ensemble:
        """The members."""
        model: Any = self.model
        return model

    def setup(self, stage: str) -> None:
        """Let members that share layers share batches; the loader may be made before the fit starts."""
        if stage == "fit" and isinstance(self.model, LoRAEnsemble):
            self._datamodule.share_batches = self.model.has_trunk

    def on_fit_start(self) -> None:
        """As in the base class; over a frozen backbone, compute its features once.

        Raises:
            UserError: see the base class.
        """
        super().on_fit_start()
        if isinstance(self.model, HeadEnsemble):
            name = f"{_name_of(self.model)} in {self.trainer.precision}"
            self._datamodule.use_features(self._features, name, self.device)

    def _features(self, rows: Rows) -> Tensor:
        assert isinstance(self.model, HeadEnsemble)
        with self.in_precision():
            return self.model.features(rows)

    def training_step(self, step: EnsembleStep, batch_idx: int) -> None:  # type: ignore[override]
        """One optimiser step of every member."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        losses: list[Tensor] = []
        norms: list[Tensor] = []
        differences: list[Tensor] = []
        for m, (member_step, batch) in enumerate(zip(step.members, step.batches, strict=True)):
            loss, difference_B = self._accumulate(m, member_step, batch)
            losses.append(loss)
            differences.append(difference_B)
            if not self.scales_loss:
                norms.append(self._clip(self.ensemble.gradients(m)))
        self.advance(torch.stack(losses).mean())
        if norms:
            self.log("train/grad_norm", torch.stack(norms).mean())
        # Prompts with K responses have as many pairs as they have: members differ in how many a step brings.
        difference = torch.cat(differences)
        self.log("train/accuracy", (difference > 0).float().mean(), prog_bar=True)
        self.log("train/margin", difference.mean())

    def _accumulate(self, m: int, step: Step[PairBatch], batch: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Gradients of a member's mean loss; the loss, and the reward differences, (B,)."""
        difference: list[Tensor] = []
        bad: list[Tensor] = []

        def loss_sum(pairs: PairBatch) -> Tensor:
            reward_N = self.ensemble.member(pairs.rows, m, batch=batch, part=len(difference))
            chosen_B, rejected_B = reward_N[pairs.chosen_B], reward_N[pairs.rejected_B]
            loss_B = self.pair_losses(chosen_B, rejected_B, pairs)
            difference.append((chosen_B - rejected_B).detach())
            bad.append(~torch.isfinite(loss_B.detach()))
            return (loss_B * self.pair_weights(pairs)).sum()

        weight = torch.stack([self.pair_weights(pairs).sum() for pairs in step]).sum()
        loss = self.accumulate(step, weight, loss_sum, lambda: self._names(step, bad))
        return loss, torch.cat(difference)

    def _clip(self, gradients: list[Tensor]) -> Tensor:
        """Shorten one member's gradient to the largest norm; returns the norm that it had."""
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            self._refuse("norm of the gradient", norm, [])
        torch._foreach_mul_(gradients, (self.largest_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def results(self) -> dict[str, Any]:
        """As in the base class, of the mean of the members, and how many they are."""
        return super().results() | {"members": self.ensemble.size}


# Of a network's configuration, what says nothing of its states.
NOT_OF_STATES = ("_name_or_path", "architectures", "id2label", "label2id", "transformers_version")


def _name_of(model: HeadEnsemble) -> str:
    """A hash of the frozen weights, and of what is computed with them."""
    told = {
        name: value for name, value in model.network.config.to_dict().items() if name not in NOT_OF_STATES
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode())
    for name, value in sorted(model.state_dict().items()):
        if "score" not in name:
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
