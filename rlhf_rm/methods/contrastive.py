"""Reward models whose representations are contrasted while they learn preferences.

Shape legend: B preference pairs, N responses or items, D hidden size.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_rm.data.batch import PairBatch, Step
from rlhf_rm.data.contrastive import ContrastiveDataModule
from rlhf_rm.errors import UserError
from rlhf_rm.functional.contrastive import alignment, uniformity
from rlhf_rm.losses.contrastive import ContrastiveLoss
from rlhf_rm.methods.gathering import gather_rows, rows_of_ranks
from rlhf_rm.methods.reward import RewardModule
from rlhf_rm.models.dropout import set_hidden_dropout
from rlhf_rm.models.reward import RewardModel

SHOWN = 500  # validation pairs whose states are looked at


class ContrastiveRewardModule(RewardModule):
    """As :class:`RewardModule`, plus a contrastive loss of two views of each pair by dropout.

    L = L_rm of both views + β · L_cl (paper, section 3): L_rm is the mean over the views, L_cl that over the
    items of a pair. The items of the whole step, of all its micro-batches and ranks, are each other's
    negatives, so the activations of a step are kept until its one backward pass.

    Args:
        model: a reward model whose head reads one token's state.
        contrastive: called with D; makes the loss of the two views.
        contrastive_weight: β, at least 0.
        dropout: rate of the hidden dropout that makes the views.

    Raises:
        UserError: a model whose head reads more than one state, an ensemble, or a negative weight.
    """

    validated: tuple[str, ...] = ("cosine",)

    def __init__(
        self,
        model: RewardModel,
        *args: Any,
        contrastive: Callable[[int], ContrastiveLoss],
        contrastive_weight: float,
        dropout: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, *args, **kwargs)
        if not model.has_states:
            raise UserError(
                f"method=contrastive contrasts the state that the head reads, and what a "
                f"{model.network.config.model_type} model's head reads is not known: use a decoder, BERT or "
                "RoBERTa."
            )
        if contrastive_weight < 0:
            raise UserError(f"contrastive.weight={contrastive_weight} must be at least 0.")
        set_hidden_dropout(model.network, dropout)
        self.contrastive = contrastive(model.state_size)
        self.contrastive_weight, self.dropout = contrastive_weight, dropout
        self.states_before: tuple[Tensor, Tensor] | None = None
        self.states_after: tuple[Tensor, Tensor] | None = None

    def sharded(self) -> list[nn.Module]:
        """As in the base class, and the prototypes if there are any."""
        return [*super().sharded(), *([self.contrastive] if list(self.contrastive.parameters()) else [])]

    def training_step(self, step: Step[PairBatch], batch_idx: int) -> None:
        """One optimiser step over both views of its pairs."""
        step = self.evened(step, PairBatch.idle)
        self.contrastive.before_step()
        difference: list[Tensor] = []
        level: list[Tensor] = []
        bad: list[Tensor] = []

        def loss_sum(whole: Step[PairBatch]) -> Tensor:
            total = torch.zeros((), device=self.device)
            states: list[Tensor] = []
            for pairs in whole:
                state_ND, score_NM = self.model.read(pairs.rows)
                reward_N = score_NM.mean(-1)
                chosen_B, rejected_B = reward_N[pairs.chosen_B], reward_N[pairs.rejected_B]
                loss_B = self.pair_losses(chosen_B, rejected_B, pairs)
                total = total + (loss_B * self.pair_weights(pairs)).sum()
                states.append(torch.stack([state_ND[pairs.chosen_B], state_ND[pairs.rejected_B]]))
                difference.append((chosen_B - rejected_B).detach())
                level.append((chosen_B + rejected_B).detach() / 2)
                bad.append(~torch.isfinite(loss_B.detach()))
            weight_B = torch.cat([self.pair_weights(pairs) for pairs in whole])
            return total + self._contrast(whole, torch.cat(states, dim=1), weight_B)

        weight = torch.stack([self.pair_weights(pairs).sum() for pairs in step]).sum()
        self.step(Step((step,)), weight, loss_sum, lambda: self._names(step, bad))
        self.log("train/reward", torch.cat(level).mean())
        self.log_differences(step, torch.cat(difference))

    def _contrast(self, step: Step[PairBatch], state_2BD: Tensor, weight_B: Tensor) -> Tensor:
        """The weighted contrastive part of a step's loss, from the states of chosen and rejected responses.

        Every pair comes twice; which of the two is the first view does not matter.
        """
        index_B = torch.cat([pairs.index_B for pairs in step])
        first_B, second_B = index_B.argsort(stable=True).view(-1, 2).unbind(1)
        items = self.contrastive.items_of
        first_ND, second_ND = (items(*state_2BD[:, which_B]) for which_B in (first_B, second_B))
        # Prompts with K responses have as many pairs as they have: ranks differ in how many a step brings.
        counts = rows_of_ranks(self, len(first_ND))
        loss_N = self.contrastive(
            first_ND,
            second_ND,
            gather=lambda values: gather_rows(self, values, counts),
            begin=sum(counts[: self.global_rank]),
        )
        loss_B = loss_N.view(-1, len(first_B)).mean(0)
        with torch.no_grad():
            self.log("train/contrastive", loss_N.mean())
            self.log("train/alignment", alignment(first_ND, second_ND).mean())
            self.log("train/uniformity", uniformity(first_ND))
            for name, value in self.contrastive.measures(first_ND).items():
                self.log(f"train/{name}", value)
        # Each pair has its weight in both views.
        return self.contrastive_weight * (loss_B * (weight_B[first_B] + weight_B[second_B])).sum()

    def on_fit_start(self) -> None:
        """As in the base class; refuses data without views and steps without negatives.

        Raises:
            UserError: see above.
        """
        datamodule = self._datamodule
        if not isinstance(datamodule, ContrastiveDataModule):
            raise UserError(
                f"ContrastiveRewardModule reads two views of each pair, which {type(datamodule).__name__} "
                "does not serve: use a ContrastiveDataModule."
            )
        if datamodule.batch_size * self.trainer.world_size < 2:
            raise UserError(
                "loader.batch_size=1 leaves a pair nothing to be contrasted with: let a step have 2 pairs or "
                "more."
            )
        super().on_fit_start()

    def on_train_start(self) -> None:
        """As in the base class, and look at the states, if this is the beginning of the training.

        Raises:
            UserError: the model's dropout does not reach its states, so both views would be the same.
        """
        super().on_train_start()
        if self.dropout > 0 and not self._views_differ():
            raise UserError(
                f"contrastive.dropout={self.dropout} changes nothing in what the head of a "
                f"{self.model.network.config.model_type} model reads, so both views of a pair would be the "
                "same: use another model, or attention=eager."
            )
        if self.states_before is None:
            self.states_before = self.states_of("test")

    @torch.no_grad()
    def _views_differ(self) -> bool:
        """Whether two passes over the same pair differ; random numbers go on as if there had been none."""
        (pairs,) = self._datamodule.split("train").step(range(1))
        rows = pairs.rows.to(self.device)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), self.in_precision():
            first_ND, second_ND = (self.model.states(rows).float() for _ in range(2))
        return not torch.allclose(first_ND, second_ND, rtol=1e-3, atol=1e-5)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Beside what is trained, the states before the training."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["states_before"] = self.states_before

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The reverse; a plain run that goes on with a contrastive term has none, and begins here."""
        super().on_load_checkpoint(checkpoint)
        self.states_before = checkpoint.get("states_before")

    @torch.no_grad()
    def states_of(self, split: str, limit: int = SHOWN) -> tuple[Tensor, Tensor]:
        """States of chosen and of rejected responses of a split's first pairs, (B, D) each, on the CPU."""
        was_training = self.model.training
        self.model.eval()
        served = self._datamodule.split(split)
        chosen: list[Tensor] = []
        rejected: list[Tensor] = []
        for pairs in served.step(range(min(limit, len(served.sizes)))):
            with self.in_precision():
                state_ND = self.model.states(pairs.rows.to(self.device)).float().cpu()
            chosen.append(state_ND[pairs.chosen_B])
            rejected.append(state_ND[pairs.rejected_B])
        self.model.train(was_training)
        return torch.cat(chosen), torch.cat(rejected)

    def on_test_epoch_end(self) -> None:
        """As in the base class, and take the states while all ranks are here to gather the weights."""
        super().on_test_epoch_end()
        self.states_after = self.states_of("test")

    def on_validation_epoch_end(self) -> None:
        """As in the base class, and the cosine of chosen and rejected states: the less, the better apart."""
        super().on_validation_epoch_end()
        cosine_B = torch.cosine_similarity(*self.states_of("validation"))
        self.log("val/cosine", cosine_B.mean())
