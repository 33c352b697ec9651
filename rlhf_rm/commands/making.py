"""Models that are made at first use, and then cached: the synthetic world's base and reward models."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ProgressBar
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_rm.data.module import StepDataModule
from rlhf_rm.files import cached_directory
from rlhf_rm.methods.schedules import warmup_linear
from rlhf_rm.methods.step import OptimizerFactory, SchedulerFactory, StepModule
from rlhf_rm.models.tokenizer import save_tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MakingSettings:
    """How such a model is trained.

    Args:
        batch_size: examples a step.
        learning_rate, warmup, weight_decay, gradient_clip: of AdamW and its schedule.
        row_tokens, micro_tokens: see :class:`~rlhf_rm.data.packing.Packing`.
        seed: of weights and data order. It is not the run's seed: runs of a sweep share what is made.
    """

    batch_size: int
    learning_rate: float
    warmup: float
    weight_decay: float
    gradient_clip: float
    row_tokens: int
    micro_tokens: int
    seed: int

    @property
    def optimisation(self) -> tuple[OptimizerFactory, SchedulerFactory, float]:
        """Optimiser, schedule and clipping, in the order in which a :class:`StepModule` takes them."""
        optimizer = partial(
            torch.optim.AdamW, lr=self.learning_rate, weight_decay=self.weight_decay, betas=(0.9, 0.95)
        )
        return optimizer, partial(warmup_linear, warmup=self.warmup, floor=0.0), self.gradient_clip

    @property
    def loading(self) -> dict[str, Any]:
        """What a :class:`StepDataModule` takes by name."""
        return {
            "too_long": "truncate_prompt_left",
            "batch_size": self.batch_size,
            "eval_batch_size": self.batch_size,
            "row_tokens": self.row_tokens,
            "micro_tokens": self.micro_tokens,
            "row_multiple": 1,
            "workers": 0,
            "seed": self.seed,
        }


def made_once(
    directory: Path, make: Callable[[], PreTrainedModel], tokenizer: PreTrainedTokenizerBase, what: str
) -> Path:
    """The directory of a model, which is made if it is not there.

    Args:
        directory: under a name made from everything that the model depends on.
        make: trains it.
        tokenizer: kept beside it.
        what: says what is made, for the log.
    """

    def fill(made: Path) -> None:
        log.info("%s, once: %s", what, directory)
        make().save_pretrained(made)
        save_tokenizer(tokenizer, made)

    return cached_directory(directory, fill)


def fit(module: StepModule, datamodule: StepDataModule, callbacks: list[L.Callback], **limits: int) -> None:
    """Train without a validation or a checkpoint.

    Args:
        module, datamodule: what is trained on what.
        callbacks: a progress bar, for instance; without one there is none.
        limits: ``max_steps`` or ``max_epochs``.
    """
    trainer = L.Trainer(
        **limits,  # type: ignore[arg-type]
        accelerator="auto",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=any(isinstance(one, ProgressBar) for one in callbacks),
        limit_val_batches=0,
        callbacks=callbacks,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=datamodule)
