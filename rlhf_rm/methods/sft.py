"""Supervised fine-tuning on demonstrations: what every reward model and policy starts from."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rlhf_rm.data.batch import Step, TextBatch
from rlhf_rm.methods.step import TEXTS_SHOWN, OptimizerFactory, SchedulerFactory, StepModule
from rlhf_rm.models.generate import Generator, Sampling
from rlhf_rm.models.language import LanguageModel
from rlhf_rm.models.transformers_engine import TransformersEngine


class SFTModule(StepModule):
    """Trains a language model on the responses of dialogues; prompts carry no loss.

    The loss is the mean over all response tokens of a step (paper, section 5: the SFT model is the
    initialisation of the reward model and of the policy).

    Args:
        model: the language model.
        optimizer, scheduler, gradient_clip: see :class:`StepModule`.
        sampling: how the sample texts are drawn that each validation ends with; None for none.
    """

    measures = ("loss",)
    shards = True
    zero = True

    def __init__(
        self,
        model: LanguageModel,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
        gradient_clip: float | None,
        sampling: Sampling | None,
    ) -> None:
        super().__init__(optimizer, scheduler, gradient_clip)
        self.model, self.sampling = model, sampling

    def training_step(self, step: Step[TextBatch], batch_idx: int) -> None:
        """One optimiser step over all micro-batches of ``step``."""
        step = self.evened(step, TextBatch.idle)
        tokens = torch.stack([(text.label_RT >= 0).sum() for text in step]).sum().float()
        self.step(step, tokens, lambda text: self.model(text).sum(), list)

    def validation_step(self, step: Step[TextBatch], batch_idx: int) -> None:
        """Log loss per token and perplexity on the validation split."""
        self._evaluate("val", step)

    def on_validation_epoch_end(self) -> None:
        """Let the model answer some prompts, to be read in the history."""
        if self.sampling is None:
            return
        network = self.whole_network(self.model)
        if not self.trainer.is_global_zero:
            return
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        prompts = datamodule.prompts("validation", TEXTS_SHOWN)
        longest = datamodule.encoder.max_length
        generator = Generator(
            network,
            datamodule.tokenizer,
            # However short the dialogues are, half of their room is left to the prompt.
            replace(self.sampling, max_new_tokens=min(self.sampling.max_new_tokens, longest // 2)),
            TransformersEngine(TEXTS_SHOWN * longest),
            max_length=longest,
        )
        found = generator.responses(prompts, 1, seed=0)
        texts = [
            {"prompt": prompt[-1].content, "response": some[0].text}
            for prompt, some in zip(prompts, found, strict=True)
        ]
        self.history.append({"step": self.global_step, "texts": texts})

    def test_step(self, step: Step[TextBatch], batch_idx: int) -> None:
        """As :meth:`validation_step` on the test split."""
        self._evaluate("test", step)

    def results(self) -> dict[str, Any]:
        """What ``metrics.json`` holds of the test: loss in nats a token, and its exponential."""
        measured = self.trainer.callback_metrics
        if "test/loss" not in measured:
            return {"sets": {}}
        loss = float(measured["test/loss"])
        return {"sets": {"test": {"loss": loss, "perplexity": math.exp(loss)}}}

    def _evaluate(self, name: str, step: Step[TextBatch]) -> None:
        losses: list[Tensor] = [self.model(text) for text in self.evened(step, TextBatch.idle)]
        # A step of a rank for which no dialogue was left is empty.
        loss_L = torch.cat([torch.empty(0, device=self.device), *losses])
        mean = loss_L.sum() / max(1, len(loss_L))
        self.log(f"{name}/loss", mean, batch_size=len(loss_L), sync_dist=True, prog_bar=True)
