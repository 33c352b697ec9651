"""Settings of every command that are numbers: of which kind, and from where to where."""

import math
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rlhf_rm.errors import UserError


@dataclass(frozen=True)
class Number:
    """What a setting may be.

    Args:
        low: the least.
        whole: whether it is a whole number.
        above: whether it has to be above the least.
        null: whether it may be null.
        high: the largest; None for no limit.
        below: whether it has to be below the largest.
        hint: what to say beside.
    """

    low: float
    whole: bool = True
    above: bool = False
    null: bool = False
    high: float | None = None
    below: bool = False
    hint: str = ""

    def allows(self, value: Any) -> bool:
        """Whether a value is such a number."""
        if value is None:
            return self.null
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        enough = value > self.low if self.above else value >= self.low
        high = math.inf if self.high is None else self.high
        return math.isfinite(value) and enough and (value < high if self.below else value <= high)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        where = f"above {self.low:g}" if self.above else f"of at least {self.low:g}"
        if self.high is not None:
            most = f"{'below' if self.below else 'at most'} {self.high:.10g}"
            closed = not (self.above or self.below)
            where = f"from {self.low:g} to {self.high:.10g}" if closed else f"{where} and {most}"
        return f"{kind} {where}{', or null' if self.null else ''}{self.hint}"


@dataclass(frozen=True)
class Interval:
    """How often something is done: what Lightning takes as ``val_check_interval``."""

    def allows(self, value: Any) -> bool:
        """Whether a value is a share of an epoch, a number of steps, a time, or null."""
        if isinstance(value, str):
            return ":" in value
        if isinstance(value, int):
            return not isinstance(value, bool) and value >= 1
        return value is None or (isinstance(value, float) and 0 < value <= 1)

    def __str__(self) -> str:
        return (
            "a share of an epoch above 0.0 and at most 1.0, or a whole number of steps of at least 1; "
            "without validation, trainer.limit_val_batches=0"
        )


POSITIVE = Number(1)
WEIGHT = Number(0, whole=False)
SHARE = Number(0, whole=False, high=1)
BELOW_1 = Number(0, whole=False, high=1, below=True)
ABOVE_0 = Number(0, whole=False, above=True)
LIMIT = Number(0, whole=False, above=True, null=True)
NO_LIMIT = Number(-1, null=True, hint="; -1 is no limit")
SEED = Number(0, high=2**32 - 1)
MADE = {  # of models that are made at first use
    "batch_size": POSITIVE,
    "learning_rate": ABOVE_0,
    "warmup": BELOW_1,
    "weight_decay": WEIGHT,
    "gradient_clip": LIMIT,
    "row_tokens": POSITIVE,
    "micro_tokens": POSITIVE,
    "seed": SEED,
}
SPEED = {"throughput.warmup_steps": Number(0), "progress.line_seconds": WEIGHT}
NUMBERS: dict[str, Number | Interval] = {
    "seed": SEED,
    "loader.batch_size": POSITIVE,
    "loader.eval_batch_size": POSITIVE,
    "loader.row_tokens": POSITIVE,
    "loader.micro_tokens": POSITIVE,
    "loader.row_multiple": POSITIVE,
    "loader.workers": Number(0, null=True),
    "model.max_length": Number(2),
    "model.vocab_size": Number(1, null=True),
    "optimizer.lr": Number(0, whole=False, above=True, null=True, hint=", such as 5e-6"),
    "optimizer.weight_decay": WEIGHT,
    "optimizer.eps": WEIGHT,
    "scheduler.warmup": BELOW_1,
    "scheduler.floor": SHARE,
    "loss.margin": WEIGHT,
    "loss.label_smoothing": Number(0, whole=False, high=0.5, below=True),
    "adapter.r": POSITIVE,
    "adapter.alpha": ABOVE_0,
    "adapter.dropout": BELOW_1,
    "adapter.top_layers": Number(1, null=True),
    "adapter.learning_rate": LIMIT,
    "method.module.gradient_clip": LIMIT,
    "method.module.centring": WEIGHT,
    "method.datamodule.folds": POSITIVE,
    "method.datamodule.held_out_fold": Number(0, null=True),
    "members.size": POSITIVE,
    "contrastive.weight": WEIGHT,
    "contrastive.dropout": BELOW_1,
    "contrastive.loss.temperature": ABOVE_0,
    "contrastive.loss.prototypes": Number(2),
    "contrastive.loss.epsilon": ABOVE_0,
    "contrastive.loss.iterations": POSITIVE,
    "meta.k": Number(2, null=True, hint=" for all"),
    "meta.prompts": POSITIVE,
    "meta.held_out": Number(0, whole=False, above=True, high=1, below=True),
    "meta.ascent.learning_rate": LIMIT,
    "meta.ascent.radius": ABOVE_0,
    "meta.made.k": Number(2),
    "meta.made.prompts": POSITIVE,
    "meta.made.seed": SEED,
    "trainer.max_epochs": NO_LIMIT,
    "trainer.max_steps": NO_LIMIT,
    "trainer.num_nodes": POSITIVE,
    "trainer.log_every_n_steps": Number(0, null=True),
    "trainer.val_check_interval": Interval(),
    "trainer.strategy.timeout_seconds": ABOVE_0,
    "callbacks.checkpoint.every_n_steps": POSITIVE,
    "callbacks.checkpoint.keep": POSITIVE,
    "callbacks.early_stopping.patience": Number(0),
    "callbacks.early_stopping.min_delta": WEIGHT,
    "data.limit": Number(1, null=True, hint=" for every row"),
    "base.settings.steps": POSITIVE,
    "sampling.max_new_tokens": POSITIVE,
    "sampling.temperature": WEIGHT,
    "sampling.top_p": Number(0, whole=False, above=True, high=1),
    "sampling.repetition_penalty": ABOVE_0,
    "engine.batch_tokens": POSITIVE,
    "ppo.caution": WEIGHT,
    "ppo.k": POSITIVE,
    "ppo.minibatches": POSITIVE,
    "ppo.passes": POSITIVE,
    "ppo.evaluated": POSITIVE,
    "ppo.pretraining_dialogues": Number(0),
    "ppo.shaping.kl_weight": WEIGHT,
    "ppo.shaping.kl_target": LIMIT,
    "ppo.shaping.kl_horizon": ABOVE_0,
    "ppo.shaping.clip": LIMIT,
    "ppo.shaping.missing_eos_penalty": WEIGHT,
    "ppo.shaping.discount": SHARE,
    "ppo.shaping.trace_decay": SHARE,
    "ppo.objective.clip": ABOVE_0,
    "ppo.objective.value_clip": LIMIT,
    "ppo.objective.value_weight": WEIGHT,
    "ppo.objective.entropy_weight": WEIGHT,
    "ppo.objective.text_weight": WEIGHT,
    "ppo.objective.critic_learning_rate": LIMIT,
    "ppo.reward_model.settings.epochs": POSITIVE,
    "ppo.limits.kl": LIMIT,
    "ppo.limits.reward_drop": Number(0, whole=False, null=True),
    "judge.tie": WEIGHT,
    "judge.at_once": POSITIVE,
    "judge.max_tokens": POSITIVE,
    "judge.retries": Number(0),
    "judge.timeout": ABOVE_0,
    "max_length": Number(1, null=True, hint=" for what the model takes"),
}
for group in ("base", "ppo.reward_model"):
    NUMBERS |= {f"{group}.settings.{name}": number for name, number in MADE.items()}
for group in ("callbacks", "base.callbacks", "ppo.reward_model.callbacks"):
    NUMBERS |= {f"{group}.{name}": number for name, number in SPEED.items()}


def check_numbers(cfg: DictConfig) -> None:
    """Refuse what would only be noticed after the data is read and the base model made.

    Raises:
        UserError: a setting is no number, or out of its range.
    """
    for key, number in NUMBERS.items():
        group, _, name = key.rpartition(".")
        holder = OmegaConf.select(cfg, group) if group else cfg
        # One that is not given at all has its own sentence.
        if not OmegaConf.is_dict(holder) or name not in holder:
            continue
        if not number.allows(value := holder[name]):
            raise UserError(f"{key}={value} must be {number}.")
