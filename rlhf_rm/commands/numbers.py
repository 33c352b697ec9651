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
        hint: what to say beside.
    """

    low: float
    whole: bool = True
    above: bool = False
    null: bool = False
    high: float | None = None
    hint: str = ""

    def allows(self, value: Any) -> bool:
        """Whether a value is such a number."""
        if value is None:
            return self.null
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        enough = value > self.low if self.above else value >= self.low
        return math.isfinite(value) and enough and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        where = f"above {self.low:g}" if self.above else f"of at least {self.low:g}"
        if self.high is not None:
            where = (
                f"{where} and at most {self.high:.0f}"
                if self.above
                else f"from {self.low:g} to {self.high:.0f}"
            )
        return f"{kind} {where}{', or null' if self.null else ''}{self.hint}"


POSITIVE = Number(1)
WEIGHT = Number(0, whole=False)
SHARE = Number(0, whole=False, high=1)
ABOVE_0 = Number(0, whole=False, above=True)
LIMIT = Number(0, whole=False, above=True, null=True)
NO_LIMIT = Number(-1, null=True, hint="; -1 is no limit")
NUMBERS = {
    "seed": Number(0, high=2**32 - 1),
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
    "method.module.gradient_clip": LIMIT,
    "trainer.max_epochs": NO_LIMIT,
    "trainer.max_steps": NO_LIMIT,
    "trainer.num_nodes": POSITIVE,
    "trainer.log_every_n_steps": Number(0, null=True),
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
    "ppo.limits.kl": LIMIT,
    "ppo.limits.reward_drop": Number(0, whole=False, null=True),
    "max_length": Number(1, null=True, hint=" for what the model takes"),
}


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
