"""What a sweep ends with: one table of all its jobs, on the screen, as CSV and as JSON."""

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from rlhf_rm.files import in_order, write_json, write_text
from rlhf_rm.overrides import ASKED, TYPED, typed

# Of these a smaller value is better; of all others a larger one.
SMALLER_IS_BETTER = {"loss", "ece", "brier", "perplexity"}
SHOWN = ("val/accuracy", "val/loss", "accuracy", "best_of_n", "loss", "ece", "brier", "perplexity")
DEFAULT_METRIC = ("val/accuracy", "val/loss", "accuracy", "perplexity")


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Args:
        number: its directory within the sweep's.
        overrides: its own settings, by key.
        status: ``done``, or ``failed``.
        metrics: of the test by name, of the validation as ``val/NAME``; empty unless it is done.
        interval: 95 % interval of the accuracy, where there is one.
    """

    number: str
    overrides: dict[str, str]
    status: str
    metrics: dict[str, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None


class SweepDirectory(Callback):
    """Hydra's callback that notes where a sweep's jobs go."""

    current: Path | None = None

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Note the directory."""
        SweepDirectory.current = Path(config.hydra.sweep.dir)


def finish_sweep(directory: Path) -> None:
    """Print the table of a sweep and leave it as ``sweep.csv`` and ``sweep.json``; nothing without jobs."""
    jobs = read_jobs(directory)
    if not jobs:
        return
    best = best_job(jobs, optimized_metric(directory, jobs))
    write_text(directory / "sweep.csv", as_csv(jobs))
    write_json(
        directory / "sweep.json",
        {
            "jobs": [asdict(job) for job in jobs],
            "best": best.number if best else None,
            "over_seeds": over_seeds(jobs),
        },
    )
    print(as_text(jobs, best))
    print(f"\nsweep  {directory / 'sweep.csv'}, {directory / 'sweep.json'}")


def read_jobs(directory: Path) -> list[Job]:
    """The jobs of a sweep, in the order in which they were started; not those of an earlier one there."""
    begun = directory / "multirun.yaml"  # Hydra's, written before the first job
    since = begun.stat().st_mtime_ns if begun.is_file() else 0
    asked = [path / ASKED for path in directory.iterdir()]
    found = [file.parents[1] for file in asked if file.is_file() and file.stat().st_mtime_ns >= since]
    return [read_job(path) for path in sorted(found, key=in_order)]


def read_job(path: Path) -> Job:
    """One job from its run directory."""
    asked, metrics_file = path / ASKED, path / "metrics.json"
    # Results from before this job began are those of another, beside which it was refused.
    if not metrics_file.is_file() or metrics_file.stat().st_mtime_ns < asked.stat().st_mtime_ns:
        return Job(path.name, typed(asked), "failed")
    overrides = typed(path / TYPED)
    results = json.loads(metrics_file.read_text(encoding="utf-8"))
    test: dict[str, Any] = next(iter(results["sets"].values()), {})
    metrics = {name: float(value) for name, value in test.items() if isinstance(value, int | float)}
    metrics |= results["validation"]
    best_of_n = (test.get("best_of_n") or {}).get("accuracy")
    if best_of_n is not None:
        metrics["best_of_n"] = float(best_of_n)
    if results.get("examples_per_second"):
        metrics["examples_per_second"] = float(results["examples_per_second"])
    low_high = test.get("accuracy_ci95")
    return Job(path.name, overrides, "done", metrics, tuple(low_high) if low_high else None)


def optimized_metric(directory: Path, jobs: Sequence[Job]) -> str:
    """The metric that the sweep asked for, else validation accuracy, or what there is."""
    from omegaconf import OmegaConf

    config = directory / jobs[0].number / ".hydra" / "config.yaml"
    asked = OmegaConf.select(OmegaConf.load(config), "optimized_metric") if config.is_file() else None
    measured = {name for job in jobs for name in job.metrics}
    return (
        str(asked).removeprefix("test/")
        if asked
        else next((name for name in DEFAULT_METRIC if name in measured), "loss")
    )


def best_job(jobs: Sequence[Job], metric: str) -> Job | None:
    """The job of the best value of a metric; None if no job has it."""
    sign = -1 if metric.removeprefix("val/") in SMALLER_IS_BETTER else 1
    have = [job for job in jobs if metric in job.metrics]
    return max(have, key=lambda job: sign * job.metrics[metric], default=None)


def over_seeds(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Mean and standard deviation (of a sample) of the jobs that differ in ``seed`` alone."""
    groups: dict[tuple[tuple[str, str], ...], list[Job]] = defaultdict(list)
    for job in jobs:
        if job.status == "done" and "seed" in job.overrides:
            rest = tuple(sorted((key, value) for key, value in job.overrides.items() if key != "seed"))
            groups[rest].append(job)
    rows = []
    for rest, members in groups.items():
        if len(members) < 2:
            continue
        row: dict[str, Any] = {"overrides": dict(rest), "seeds": [job.overrides["seed"] for job in members]}
        for name in SHOWN:
            values = [job.metrics[name] for job in members if name in job.metrics]
            if len(values) == len(members):
                mean = sum(values) / len(values)
                spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
                row[name] = {"mean": mean, "std": spread}
        rows.append(row)
    return rows


def as_csv(jobs: Sequence[Job]) -> str:
    """A row for each job, with all of its metrics."""
    keys = list(dict.fromkeys(key for job in jobs for key in job.overrides))
    names = list(dict.fromkeys(name for job in jobs for name in job.metrics))
    columns = [_column(name, keys) for name in names]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["job", *keys, "status", *columns, "accuracy_low", "accuracy_high"])
    for job in jobs:
        values = [job.metrics.get(name, "") for name in names]
        settings = [job.overrides.get(key, "") for key in keys]
        writer.writerow([job.number, *settings, job.status, *values, *(job.interval or ("", ""))])
    return text.getvalue()


def as_text(jobs: Sequence[Job], best: Job | None) -> str:
    """The table for the screen: the settings that differ, the metrics, and the means over seeds."""
    keys = [
        key
        for key in dict.fromkeys(key for job in jobs for key in job.overrides)
        if len({job.overrides.get(key) for job in jobs}) > 1
    ]
    names = [name for name in SHOWN if any(name in job.metrics for job in jobs)]
    rows = [["job", *keys, *(_column(name, keys) for name in names), ""]]
    for job in jobs:
        cells = [_cell(job, name) for name in names]
        mark = "failed" if job.status != "done" else "best" if job is best else ""
        rows.append([job.number, *(job.overrides.get(key, "") for key in keys), *cells, mark])
    for row in over_seeds(jobs):
        settings = ["" if key == "seed" else row["overrides"].get(key, "") for key in keys]
        cells = [f"{row[name]['mean']:.3f} ± {row[name]['std']:.3f}" if name in row else "" for name in names]
        rows.append([f"mean of {len(row['seeds'])}", *settings, *cells, ""])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(["", *(line.rstrip() for line in lines)])


def _column(metric: str, keys: Sequence[str]) -> str:
    """The heading of a metric; of one of the test that is called like a setting, ``test/NAME``."""
    return f"test/{metric}" if metric in keys else metric


def _cell(job: Job, name: str) -> str:
    if name not in job.metrics:
        return ""
    value = f"{job.metrics[name]:.3f}"
    if name == "accuracy" and job.interval:
        value += f" ({job.interval[0]:.3f} to {job.interval[1]:.3f})"
    return value
