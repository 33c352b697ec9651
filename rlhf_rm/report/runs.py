"""Runs, read back from their directories, and put into groups that differ in the seed alone."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from rlhf_rm.errors import UserError
from rlhf_rm.overrides import as_read
from rlhf_rm.report.inputs import expecting, read
from rlhf_rm.rounds.stage import NOT_INPUT

# Settings that say where and how a run was made, not what it is.
ELSEWHERE = ("hydra.", "paths.", "launcher", "resume", "traceback", *NOT_INPUT)
DEFAULTS = "defaults"  # the group that was told nothing of what varies
SEED, DATA_SEED = "seed", "data.seed"
STRENGTHS = "denoise.strengths"


@dataclass(frozen=True)
class TrainedRun:
    """One finished run.

    Args:
        directory: where it lies.
        overrides: what it was told, by key, as text; and its seeds in any case.
        metrics: of the test by name, of the last validation as ``val/NAME``.
        curves: of each metric the (step, value) that were logged.
        results: all of its metrics.json.
        drawn: its figures.json; empty without one.
    """

    directory: Path
    overrides: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Mapping[str, Sequence[tuple[int, float]]]
    results: Mapping[str, Any] = field(default_factory=dict)
    drawn: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tested(self) -> Mapping[str, Any]:
        """What its test has measured; empty without a test."""
        return next(iter(self.results["sets"].values()), {})

    @property
    def seed(self) -> str:
        """By which runs of different groups are paired: its seed, and that of its data."""
        return "/".join(self.overrides.get(key, "") for key in (SEED, DATA_SEED))


@dataclass(frozen=True)
class Group:
    """Runs that differ in the seed alone.

    Args:
        name: the settings by which it differs from the other groups; none of these has the same.
        settings: the same, by key.
        runs: by seed.
    """

    name: str
    settings: Mapping[str, str]
    runs: Mapping[str, TrainedRun]


def read_run(directory: Path, overrides: Mapping[str, str]) -> TrainedRun:
    """A finished run.

    Args:
        directory: of the run.
        overrides: what it was told, by key.

    Raises:
        UserError: a file of it is damaged.
    """
    names = ("metrics.json", "metrics.csv", "figures.json", "config.yaml")
    metrics, curves, figures, config = (directory / name for name in names)
    results = read(metrics)
    with expecting(metrics):
        test: Mapping[str, Any] = next(iter(results["sets"].values()), {})
        numbers = {name: float(value) for name, value in test.items() if isinstance(value, int | float)}
        numbers |= results["validation"]
    with expecting(curves):
        logged = read_curves(curves)
    kept = {key: value for key, value in overrides.items() if not key.startswith(ELSEWHERE)}
    if config.is_file():
        with expecting(config):
            kept |= _seeds(yaml.safe_load(config.read_text(encoding="utf-8")))
    drawn = read(figures) if figures.is_file() else {}
    return TrainedRun(directory, kept, numbers, logged, results, drawn)


def _seeds(config: Mapping[str, Any]) -> dict[str, str]:
    """A run's seeds by key: one that was left at its default is equal to one that was told the same."""
    given = {SEED: config.get("seed"), DATA_SEED: (config.get("data") or {}).get("seed")}
    return {key: str(value) for key, value in given.items() if value is not None}


def grouped(runs: Sequence[TrainedRun]) -> list[Group]:
    """The runs in groups that differ in the seed alone, in the order of their first run.

    A value stands as the first run has it that was told the same: 5e-4 and 0.0005 are one setting.

    Raises:
        UserError: two runs are the same in everything.
    """
    runs = _typed_alike(runs)
    varying = [key for key in differing([run.overrides for run in runs]) if key not in (SEED, DATA_SEED)]
    if len({run.overrides.get(DATA_SEED) for run in runs}) > 1 and _one_vote_a_world(runs, varying):
        varying = [key for key in varying if key != STRENGTHS]
    groups: dict[tuple[tuple[str, str], ...], dict[str, TrainedRun]] = {}
    for run in runs:
        settings = tuple((key, run.overrides[key]) for key in varying if key in run.overrides)
        members = groups.setdefault(settings, {})
        if run.seed in members:
            raise UserError(
                f"{run.directory} and {members[run.seed].directory} have the same settings and seed: "
                "name each run once."
            )
        members[run.seed] = run
    short = short_keys(varying)
    return [
        Group(_name(settings, short, alone=len(groups) == 1), dict(settings), members)
        for settings, members in groups.items()
    ]


def _typed_alike(runs: Sequence[TrainedRun]) -> list[TrainedRun]:
    """The runs with each value as the first of them typed it that Hydra reads as the same."""
    first: dict[tuple[str, str], str] = {}

    def typed(key: str, value: str) -> str:
        return first.setdefault((key, as_read(value)), value)

    return [
        replace(run, overrides={k: typed(k, value) for k, value in run.overrides.items()}) for run in runs
    ]


def differing(told: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys in which these differ, one that some of them lack included, in the order of their mention."""
    keys = dict.fromkeys(key for one in told for key in one)
    return [key for key in keys if len({one.get(key) for one in told}) > 1]


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Of each key as many of its last parts as tell it from the others."""
    tails = {key: [key.split(".", skipped)[-1] for skipped in range(key.count("."), -1, -1)] for key in keys}
    shared = Counter(tail for some in tails.values() for tail in some)
    return {key: next((tail for tail in some if shared[tail] == 1), key) for key, some in tails.items()}


def _one_vote_a_world(runs: Sequence[TrainedRun], varying: Sequence[str]) -> bool:
    """Whether runs on the same world, and else alike, read the same strengths: those that belong to it."""
    votes: dict[tuple[str | None, ...], set[str | None]] = {}
    for run in runs:
        alike = tuple(run.overrides.get(key) for key in (DATA_SEED, *varying) if key != STRENGTHS)
        votes.setdefault(alike, set()).add(run.overrides.get(STRENGTHS))
    return all(len(some) == 1 for some in votes.values())


def _name(settings: Sequence[tuple[str, str]], short: Mapping[str, str], *, alone: bool) -> str:
    if not settings:
        return "all runs" if alone else DEFAULTS
    if len(short) == 1 and settings[0][1] != DEFAULTS:
        return settings[0][1]
    return ", ".join(f"{short[key]}={value}" for key, value in settings)


def read_curves(file: Path) -> dict[str, list[tuple[int, float]]]:
    """Of each metric in a run's ``metrics.csv`` the (step, value) that were logged; none without the file."""
    curves: dict[str, list[tuple[int, float]]] = {}
    if not file.is_file():
        return curves
    with file.open(encoding="utf-8", newline="") as opened:
        rows: list[dict[str, Any]] = list(csv.DictReader(opened))
    for row in rows:
        for name, value in row.items():
            if name != "step" and value not in ("", None):
                curves.setdefault(name, []).append((int(row["step"]), float(value)))
    return curves
