"""The closing summary of a command: numbers of each set, speed, and where everything lies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_rm.metrics.names import METRIC_NAMES, with_interval

WITH_INTERVAL = ("accuracy", "best_of_n")


def print_summary(
    results: Mapping[str, Any], *, run_dir: Path, exported: Path, difference: float, seconds: float
) -> None:
    """What a training run ends with."""
    rows = [
        (label, f"{results[key]:,.1f}")
        for key, label in (("examples_per_second", f"{results['unit']}/s"), ("tokens_per_second", "tokens/s"))
        if results[key]
    ]
    rows += [
        ("whole run", f"{seconds:.0f} s, {results['steps']} steps"),
        ("run directory", str(run_dir)),
        ("model", f"{exported} (opened with plain transformers: scores within {difference:.0e})"),
        ("metrics", f"{run_dir / 'metrics.json'}, {run_dir / 'metrics.csv'}"),
    ]
    print(describe(results["sets"], rows))


def describe(sets: Mapping[str, Mapping[str, Any]], rows: Sequence[tuple[str, str]]) -> str:
    """The numbers of each set, a column a set, then more rows of label and value, as aligned lines."""
    names = [] if len(sets) == 1 else [("", *sets)]
    numbers = [
        (_label(key), *(_number(key, values) if key in values else "" for values in sets.values()))
        for key in METRIC_NAMES
        if any(key in values for values in sets.values())
    ]
    first = max(len(row[0]) for row in [*numbers, *rows])
    others = [
        max(len(cell) for cell in column)
        for column in zip(*[row[1:] for row in names + numbers], strict=True)
    ]
    lines = [
        "  ".join(
            [f"{row[0]:<{first}}", *(f"{cell:<{width}}" for cell, width in zip(row[1:], others, strict=True))]
        )
        for row in names + numbers
    ]
    return "\n".join(
        ["", *(line.rstrip() for line in lines), *(f"{label:<{first}}  {text}" for label, text in rows)]
    )


def _label(key: str) -> str:
    return METRIC_NAMES[key] + (" (95 % interval)" if key in WITH_INTERVAL else "")


def _number(key: str, values: Mapping[str, Any]) -> str:
    value = values[key]
    # Of no prompt it may be known which response is best: preferences that go round in a circle.
    if value is None or (key == "best_of_n" and value["accuracy"] is None):
        return "not defined"
    if key == "accuracy":
        return with_interval(value, values["accuracy_ci95"])
    if key == "best_of_n":
        shown = with_interval(value["accuracy"], value["accuracy_ci95"])
        return f"{shown}, chance {value['chance']:.3f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
