"""Reward models by pairwise preference: Bradley–Terry and kin."""

from typing import Any

import torch
from torch import Tensor

from rlhf_rm.data.batch import PairBatch, Step
from rlhf_rm.errors import UserError
from rlhf_rm.functional.preference import centring
from rlhf_rm.functional.ranking import choice_weights
from rlhf_rm.losses.base import ChoiceLoss, PreferenceLoss
from rlhf_rm.methods.gathering import gather_rows, rows_of_ranks
from rlhf_rm.methods.step import OptimizerFactory, SchedulerFactory, StepModule
from rlhf_rm.metrics.reference import reference_accuracy, reference_labels
from rlhf_rm.metrics.rewards import Rewards, RewardTable
from rlhf_rm.metrics.split import evaluate_split
from rlhf_rm.models.reward import RewardModel


class RewardModule(StepModule):
    """Trains a reward model on preference pairs with any loss of pairs or of choices.

    The loss reads the columns ``margin`` and ``target``; ``weight`` enters the one reduction, a
    weighted mean over the step (paper, section 2.1).

    Args:
        model: the reward model.
        loss: unreduced loss of chosen and rejected rewards.
        centring: weight of (chosen + rejected)², which keeps rewards from drifting; 0 leaves it out.
        optimizer, scheduler, gradient_clip: see :class:`StepModule`.
    """

    shards = True
    zero = True
    measures = ("accuracy", "loss", "margin", "reward", "ece")

    def __init__(
        self,
        model: RewardModel,
        loss: PreferenceLoss | ChoiceLoss,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
        gradient_clip: float | None,
        centring: float,
    ) -> None:
        super().__init__(optimizer, scheduler, gradient_clip)
        if not 0 <= centring < float("inf"):
            raise UserError(f"method.module.centring={centring} must be a number of at least 0.")
        self.model, self.loss, self.centring = model, loss, centring
        self.validation_table = RewardTable()
        self.test_table = RewardTable()
        self.test_rewards: Rewards | None = None

    def forward(self, pairs: PairBatch) -> tuple[Tensor, Tensor]:
        """Rewards of the chosen and of the rejected responses, each (B,)."""
        reward_N = self.model(pairs.rows)
        return reward_N[pairs.chosen_B], reward_N[pairs.rejected_B]

    def pair_losses(self, chosen_B: Tensor, rejected_B: Tensor, pairs: PairBatch) -> Tensor:
        """Unreduced loss, (B,)."""
        if isinstance(self.loss, ChoiceLoss):
            loss_B: Tensor = self.loss(chosen_B, rejected_B, choice_B=pairs.chosen_B)
        else:
            loss_B = self.loss(chosen_B, rejected_B, margin_B=pairs.margin_B, target_B=pairs.target_B)
        return loss_B + self.centring * centring(chosen_B, rejected_B) if self.centring else loss_B

    def pair_weights(self, pairs: PairBatch) -> Tensor:
        """Weight of each pair in the mean, (B,): its column, and a share of its choice where those count."""
        if isinstance(self.loss, ChoiceLoss):
            return pairs.weight_B * choice_weights(pairs.chosen_B)
        return pairs.weight_B

    def training_step(self, step: Step[PairBatch], batch_idx: int) -> None:
        """One optimiser step over all micro-batches of ``step``."""
        step = self.evened(step, PairBatch.idle)
        difference: list[Tensor] = []
        level: list[Tensor] = []
        bad: list[Tensor] = []

        def loss_sum(pairs: PairBatch) -> Tensor:
            chosen_B, rejected_B = self(pairs)
            loss_B = self.pair_losses(chosen_B, rejected_B, pairs)
            difference.append((chosen_B - rejected_B).detach())
            level.append((chosen_B + rejected_B).detach() / 2)
            bad.append(~torch.isfinite(loss_B.detach()))
            return (loss_B * self.pair_weights(pairs)).sum()

        weight = torch.stack([self.pair_weights(pairs).sum() for pairs in step]).sum()
        self.step(step, weight, loss_sum, lambda: self._names(step, bad))
        self.log("train/reward", torch.cat(level).mean())
        self.log_differences(step, torch.cat(difference))

    def log_differences(self, step: Step[PairBatch], difference_B: Tensor) -> None:
        """Log what the reward differences of a step's pairs say, (B,), in the order of its micro-batches."""
        self.log("train/accuracy", (difference_B > 0).float().mean(), prog_bar=True)
        self.log("train/margin", difference_B.mean())

    def validation_step(self, step: Step[PairBatch], batch_idx: int) -> None:
        """Collect rewards; the metrics are taken over the whole split at once."""
        self._collect(self.validation_table, step)

    def on_validation_epoch_end(self) -> None:
        """Log accuracy, loss and calibration on the validation split, and accuracy by gold if known."""
        rewards = self.validation_table.rewards()
        self._warn_if_constant(rewards)
        for name, value in rewards.summary().items():
            self.log(f"val/{name}", value, prog_bar=name == "accuracy")
        known = reference_labels(self._datamodule.split("validation").notes)
        if known is not None:
            name, right = known
            index = rewards.index.numpy()
            difference = (rewards.chosen - rewards.rejected).double().numpy()
            accuracy = reference_accuracy(difference, right[index])
            if accuracy is not None:
                self.log(f"val/accuracy_{name}", accuracy)

    def test_step(self, step: Step[PairBatch], batch_idx: int) -> None:
        """As :meth:`validation_step`; what was collected stays in ``test_rewards``."""
        self._collect(self.test_table, step)

    def on_test_epoch_end(self) -> None:
        """Log the test metrics and keep every pair's rewards."""
        self.test_rewards = self.test_table.rewards()
        for name, value in self.test_rewards.summary().items():
            self.log(f"test/{name}", value)

    def results(self) -> dict[str, Any]:
        """What ``metrics.json`` holds of the test: see :func:`evaluate_split`."""
        if self.test_rewards is None:
            return {"sets": {}}
        measured = evaluate_split(self.test_rewards, self._datamodule.split("test").columns)
        return {"sets": {"test": {**measured, "loss": self.test_rewards.mean_loss}}}

    def on_fit_start(self) -> None:
        """Refuse data whose margins this loss would ignore.

        Raises:
            UserError: see above.
        """
        train = self._datamodule.split("train")
        for column, reads, default in (
            (train.labels.margin, self.loss.reads_margin, 0.0),
            (train.labels.target, self.loss.reads_target, 1.0),
        ):
            if not reads and bool((column != default).any()):
                raise UserError(
                    f"the data has a {'margin' if default == 0 else 'target'} column that "
                    f"{type(self.loss).__name__} does not read: use loss=bradley_terry, or data without it."
                )

    @property
    def _datamodule(self) -> Any:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def _collect(self, table: RewardTable, step: Step[PairBatch]) -> None:
        for pairs in self.evened(step, PairBatch.idle):
            chosen_B, rejected_B = self(pairs)
            loss_B = self.pair_losses(chosen_B, rejected_B, pairs)
            if not torch.isfinite(chosen_B + rejected_B).all():
                bad = pairs.index_B[~torch.isfinite(chosen_B + rejected_B)]
                raise UserError(
                    f"the model gives {len(bad)} rewards that are no finite numbers; nothing was measured."
                )
            table.update(
                index=pairs.index_B,
                chosen=chosen_B,
                rejected=rejected_B,
                loss=loss_B,
                weight=self.pair_weights(pairs),
                chosen_tokens=pairs.rows.length_N[pairs.chosen_B],
                rejected_tokens=pairs.rows.length_N[pairs.rejected_B],
            )

    def _names(self, step: Step[PairBatch], bad: list[Tensor]) -> list[str]:
        """The bad pairs of all ranks; every pair, if only their sum is bad."""
        columns = torch.stack([torch.cat([pairs.index_B for pairs in step]), torch.cat(bad).long()], dim=1)
        index, is_bad = gather_rows(self, columns, rows_of_ranks(self, len(columns))).unbind(1)
        indices = (index[is_bad > 0] if is_bad.any() else index).tolist()
        return [f"pair {self._datamodule.pair_name('train', i)}" for i in indices]

    def _warn_if_constant(self, rewards: Rewards) -> None:
        if rewards.constant:
            self.print(
                "Warning: every response of the validation split has the same reward. The usual causes: a "
                "learning rate that is too high, pairs cut to the same text (see model.max_length), or a "
                "frozen head."
            )
