"""MetaRM: reward models that stay able to tell the policy's responses apart.

Shape legend: N distinct responses, B pairs of responses to the same prompt, P prompts.
"""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from rlhf_rm.data.batch import Step
from rlhf_rm.data.meta import MetaDataModule, MetaStep
from rlhf_rm.data.shifted import ResponseBatch
from rlhf_rm.errors import UserError
from rlhf_rm.functional.meta import difference_objective
from rlhf_rm.methods.ascent import Ascent
from rlhf_rm.methods.contrastive import ContrastiveRewardModule
from rlhf_rm.methods.memory import is_out_of_memory
from rlhf_rm.methods.reward import RewardModule
from rlhf_rm.metrics.shifted import ShiftedRewards
from rlhf_rm.strategies.deepspeed import DeepSpeedStrategy

SHOWN = 256  # held-out prompts that are measured
ROUNDED = 0.5  # share of changed weights below which the ascent is hardly one


class MetaRewardModule(RewardModule):
    """As :class:`RewardModule`, with each step's gradient taken where the policy's responses differ more.

    θ′ = θ + η ∇J(X_s), g = ∇L(X_t) at θ′, and the optimiser takes g from θ: first order (MetaRM, arXiv
    2405.00438, section 2; paper, section 4). J is the mean of :func:`difference_objective` over the prompts
    of X_s. A step costs a plain one and one forward and backward pass over X_s.

    Args:
        ascent: how far up.

    Raises:
        UserError: when fitting starts: another kind of data module, ZeRO, or scaled gradients.
    """

    zero = False

    validated: tuple[str, ...] = ("shifted",)

    def __init__(self, *args: Any, ascent: Ascent, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ascent = ascent
        self.shifted_before: ShiftedRewards | None = None
        self.shifted_after: ShiftedRewards | None = None
        self.work = (0, 0)  # examples and tokens of the last step
        self._responses: Step[ResponseBatch] = Step(())
        self._warned = False
        self.last_ascent: dict[str, Tensor] = {}  # what the last step measured

    def training_step(self, step: MetaStep, batch_idx: int) -> None:  # type: ignore[override]
        """One optimiser step over the preferences of ``step``, from above its responses."""
        self._responses = self.evened(step.responses, ResponseBatch.idle)
        parts = [*step.preferences, *step.responses]
        self.work = sum(one.examples for one in step.preferences), sum(one.rows.tokens for one in parts)
        super().training_step(step.preferences, batch_idx)

    def accumulate(
        self,
        step: Step[Any],
        weight: Tensor,
        loss_sum: Callable[[Any], Tensor],
        culprits: Callable[[], list[str]],
    ) -> Tensor:
        """As in the base class, but the gradient is that at θ′; the weights are back at θ afterwards."""
        try:
            self.log("train/ascent_objective", self._climb(self._responses))
            mean = super().accumulate(step, weight, loss_sum, culprits)
        finally:
            self.last_ascent = self.ascent.back()
        for name, value in self.last_ascent.items():
            self.log(f"train/{name}", value)
        self._warn_if_rounded(self.last_ascent["ascent_changed"])
        return mean

    def _climb(self, responses: Step[ResponseBatch]) -> Tensor:
        """Go from θ to θ′; returns J at θ."""
        objective = self.objective(responses)
        try:
            norm = self.ascent.up([p for p in self.model.parameters() if p.requires_grad])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                "out of memory for the copy of the trained weights that the ascent comes back to: use "
                "adapter=lora, or strategy=fsdp on more devices; go on with resume=auto."
            ) from error
        self.log("train/ascent_norm", norm)
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        return objective

    def objective(self, responses: Step[ResponseBatch]) -> Tensor:
        """J, the mean over the prompts of all ranks; its gradient is added to the weights'."""
        prompts = torch.tensor(float(sum(batch.examples for batch in responses)), device=self.device)
        others: list[nn.Parameter] = []
        if isinstance(self.trainer.strategy, DDPStrategy):
            of_model = {id(parameter) for parameter in self.model.parameters()}
            others = [p for p in self.parameters() if p.requires_grad and id(p) not in of_model]

        def objective_sum(batch: ResponseBatch) -> Tensor:
            reward_N = self.model(batch.rows)
            objective_B = difference_objective(reward_N[batch.first_B], reward_N[batch.second_B])
            # DDP waits for a gradient of every parameter, also of those that only the preferences read.
            return (objective_B * batch.weight_B).sum() + sum(0.0 * one.sum() for one in others)

        return super().accumulate(responses, prompts, objective_sum, list)

    def _warn_if_rounded(self, changed: Tensor) -> None:
        if self._warned or self.global_step > 1 or changed >= ROUNDED:
            return
        self._warned = True
        self.print(
            f"Warning: the ascent changes only {float(changed):.0%} of the weights that have a gradient, "
            "the others round back to what they were: let model.dtype be float32 (with "
            "trainer.precision=bf16-mixed), or take a longer step: meta.ascent.kind=normalised, "
            "or a larger meta.ascent.learning_rate."
        )

    def on_fit_start(self) -> None:
        """As in the base class; refuses what the ascent cannot be done with.

        Raises:
            UserError: see the class.
        """
        if not isinstance(self._datamodule, MetaDataModule):
            raise UserError(
                f"{type(self).__name__} reads responses of the policy beside the preferences, which "
                f"{type(self._datamodule).__name__} does not serve: use a MetaDataModule."
            )
        if isinstance(self.trainer.strategy, DeepSpeedStrategy):
            raise UserError(
                "MetaRM changes the weights within a step, and DeepSpeed keeps copies of them that would not "
                "follow: use strategy=ddp or strategy=fsdp."
            )
        if self.scales_loss:
            raise UserError(
                "trainer.precision=16-mixed scales gradients, so the ascent would be too long by that scale: "
                "use bf16-mixed."
            )
        super().on_fit_start()

    def on_train_start(self) -> None:
        """As in the base class, and measure the held-out responses, if the training begins here."""
        super().on_train_start()
        if self.shifted_before is None:
            self.shifted_before = self.shifted_rewards()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Beside what is trained, what the last ascent was, and what was measured before the training."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["ascent"] = self._ascent_told()
        checkpoint["shifted_before"] = vars(self.shifted_before) if self.shifted_before else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The reverse."""
        super().on_load_checkpoint(checkpoint)
        if "ascent" not in checkpoint:
            raise UserError(
                "this checkpoint is that of another method than meta: begin anew, from its weights with "
                "model.path=RUN if you like."
            )
        self.last_ascent = {name: torch.tensor(value) for name, value in checkpoint["ascent"].items()}
        before = checkpoint["shifted_before"]
        self.shifted_before = ShiftedRewards(**before) if before else None

    def results(self) -> dict[str, Any]:
        """As in the base class, and what the last ascent was."""
        return super().results() | {"ascent": self._ascent_told()}

    def _ascent_told(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.last_ascent.items()}

    def on_validation_epoch_end(self) -> None:
        """As in the base class, and how far apart the held-out responses are, by gold how rightly."""
        super().on_validation_epoch_end()
        self.shifted_after = self.shifted_rewards()
        for name, value in self.shifted_after.summary().items():
            self.log(f"val/shifted_{name}", value)

    @torch.no_grad()
    def shifted_rewards(self, limit: int = SHOWN) -> ShiftedRewards:
        """The rewards of the first held-out prompts' responses, in pairs, on the CPU."""
        was_training = self.model.training
        self.model.eval()
        datamodule = self._datamodule
        held_out = datamodule.shifted("validation")
        pairs = []
        for batch in held_out.step(range(min(limit, len(held_out))), datamodule.packing):
            with self.in_precision():
                reward_N = self.model(batch.rows.to(self.device)).float().cpu()
            pairs.append(
                ShiftedRewards(
                    reward_N[batch.first_B],
                    reward_N[batch.second_B],
                    batch.weight_B,
                    batch.first_gold_B,
                    batch.second_gold_B,
                    len(batch.prompt_P),
                )
            )
        self.model.train(was_training)
        return ShiftedRewards.together(pairs)


class MetaContrastiveRewardModule(MetaRewardModule, ContrastiveRewardModule):  # type: ignore[misc]
    """As :class:`MetaRewardModule`, where what the preferences lose has a contrastive term."""

    validated = (*MetaRewardModule.validated, *ContrastiveRewardModule.validated)
