"""Which overrides of `iterate` go to which of its steps."""

import errno
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from rlhf_rm.errors import UserError
from rlhf_rm.overrides import more

OWN = (
    "rounds",
    "policy_init",
    "reward_init",
    "reward",
    "policy",
    "sampled",
    "judged",
    "launch",
    "dry_run",
    "traceback",
)
REFUSED = {
    "resume": "each step goes on where it was interrupted by itself",
    "experiment": "an experiment sets up one training, or a sweep of them: write out what it sets",
    "optimized_metric": "iterate has no single metric",
    "hparams_search": "iterate has no single metric to search by",
}
ONLY_REWARD = ("method", "loss", "denoise", "contrastive", "meta", "members", "ensemble")
ONLY_POLICY = ("ppo",)
# These name where something goes, not what a step depends on.
PLACES = ("paths", "callbacks", "logger", "trainer", "hydra")
# What the commands beside `train` read.
SAMPLE = ("data", "loader", "sampling", "engine", "attention", "paths")
JUDGE = ("data", "loader", "attention", "paths", "judge")
EVALUATE = ("loader", "attention", "paths")


@dataclass(frozen=True)
class Forwarded:
    """Overrides for each kind of step, in the order in which they were given."""

    reward: tuple[str, ...]
    policy: tuple[str, ...]
    sample: tuple[str, ...]
    judge: tuple[str, ...]
    evaluate: tuple[str, ...]


def forwarded(overrides: Iterable[str], reward: Mapping[str, Any], policy: Mapping[str, Any]) -> Forwarded:
    """Sort what was given on the command line by who reads it.

    Args:
        overrides: as they were given.
        reward, policy: more for the trainings of the reward model and of the policy.

    Raises:
        UserError: one that no step could take.
    """
    given: list[tuple[str, str]] = []
    for override in overrides:
        key = first_key(override)
        if key in REFUSED:
            raise UserError(f"{override} is nothing for iterate: {REFUSED[key]}.")
        if key not in OWN:
            given.append((key, override))
    if any(key == "meta" and _gives_responses(override) for key, override in given):
        raise UserError("meta.responses is what each round samples: leave it out, or use `rlhf-rm train`.")

    def of(keys: Sequence[str]) -> tuple[str, ...]:
        return tuple(override for key, override in given if key in keys)

    def but(keys: Sequence[str]) -> tuple[str, ...]:
        return tuple(override for key, override in given if key not in (*keys, "judge", "launcher"))

    return Forwarded(
        reward=(*but(ONLY_POLICY), *more(reward)),
        policy=(*but(ONLY_REWARD), *more(policy)),
        sample=of(SAMPLE),
        judge=of(JUDGE),
        evaluate=of(EVALUATE),
    )


def first_key(override: str) -> str:
    """What an override is about: ``data`` of ``data=hh``, ``+data@data.source=hh`` and ``data.path=FILE``."""
    return re.split(r"[.@=]", override.lstrip("+~"), maxsplit=1)[0]


def _gives_responses(override: str) -> bool:
    (one,) = OverridesParser.create().parse_overrides([override])
    value = None if one.is_delete() else one.value()
    return one.key_or_group == "meta.responses" or (isinstance(value, dict) and "responses" in value)


def named_paths(overrides: Iterable[str]) -> list[Path]:
    """The files and directories that overrides name, such as data, strengths and models."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    given = [one for one in parsed if not one.is_delete() and first_key(one.key_or_group) not in PLACES]
    # A choice within a group, such as data=hh, names no file.
    values = [one.value() for one in given if "." in one.key_or_group or isinstance(one.value(), dict)]
    return [Path(text) for value in values for text in _texts_in(value) if text and is_there(text)]


def paths_in(settings: Any) -> list[Path]:
    """The files and directories that settings name, however deep: what looks like a path, and is there."""
    found = [text for text in _texts_in(settings) if "/" in text or Path(text).suffix]
    return [Path(text) for text in found if is_there(text)]


def _texts_in(settings: Any) -> list[str]:
    if isinstance(settings, dict):
        return [text for value in settings.values() for text in _texts_in(value)]
    if isinstance(settings, list):
        return [text for value in settings for text in _texts_in(value)]
    return [settings] if isinstance(settings, str) else []


def is_there(text: str) -> bool:
    """Whether a text is the name of a file or directory."""
    try:
        return Path(text).exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # a question to a judge, for instance
            return False
        raise
