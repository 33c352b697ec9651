"""Means over seeds with intervals, and differences from a baseline seed by seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t as student_t

from rlhf_rm.report.runs import Group, TrainedRun


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Args:
        mean: of the values.
        low, high: ends of its 95 % interval (Student's t); None with a single seed.
        seeds: how many values.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of these values, one a seed, with its 95 % interval by Student's t distribution."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Estimate(mean, None, None, len(values))
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = reach(len(values)) * math.sqrt(variance)
    return Estimate(mean, mean - half, mean + half, len(values))


def reach(seeds: int) -> float:
    """How many standard deviations between seeds a 95 % interval has to each side; for 2 seeds or more."""
    return float(student_t.ppf(0.975, seeds - 1)) / math.sqrt(seeds)


def metric_of(run: TrainedRun, name: str) -> float | None:
    """A run's metric; ``best NAME`` is the highest of its curve, ``lost NAME`` what it lost since then."""
    kind, _, metric = name.partition(" ")
    if kind not in ("best", "lost"):
        return run.metrics.get(name)
    values = [value for _, value in run.curves.get(metric, ())]
    if not values:
        return None
    return max(values) if kind == "best" else max(values) - values[-1]


def over_seeds(group: Group, name: str) -> Estimate | None:
    """A metric's mean over the runs of a group; None if one of them has not measured it."""
    values = [metric_of(run, name) for run in group.runs.values()]
    known = [value for value in values if value is not None]
    return estimate(known) if known and len(known) == len(values) else None


def paired(group: Group, baseline: Group, name: str) -> Estimate | None:
    """Mean difference from the baseline over the seeds that both have; None without any."""
    differences = []
    for seed in group.runs.keys() & baseline.runs.keys():
        ours, theirs = metric_of(group.runs[seed], name), metric_of(baseline.runs[seed], name)
        if ours is not None and theirs is not None:
            differences.append(ours - theirs)
    return estimate(differences) if differences else None
