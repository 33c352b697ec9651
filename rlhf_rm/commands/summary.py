"""The closing summary of a training run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAMES = {
    "pairs": "test pairs",
    "accuracy": "accuracy",
    "ties": "ties",
    "loss": "loss (nats)",
    "ece": "calibration error (ECE)",
    "brier": "Brier score",
    "mean_margin": "mean margin",
    "length_correlation": "reward and length (rank corr.)",
    "perplexity": "perplexity",
}


def print_summary(
    results: Mapping[str, Any], *, run_dir: Path, exported: Path, difference: float, seconds: float
) -> None:
    """Accuracy, calibration, speed, and where everything lies."""
    rows: list[tuple[str, str]] = []
    for name, values in results["sets"].items():
        for key, label in NAMES.items():
            if key in values:
                rows.append(
                    (f"{label} ({name})" if len(results["sets"]) > 1 else label, _number(key, values))
                )
    for key, label in (("examples_per_second", "pairs/s"), ("tokens_per_second", "tokens/s")):
        if results[key]:
            rows.append((label, f"{results[key]:,.1f}"))
    rows += [
        ("whole run", f"{seconds:.0f} s, {results['steps']} steps"),
        ("run directory", str(run_dir)),
        ("model", f"{exported} (opened with plain transformers: scores within {difference:.0e})"),
        ("metrics", f"{run_dir / 'metrics.json'}, {run_dir / 'metrics.csv'}"),
    ]
    width = max(len(label) for label, _ in rows)
    print("\n" + "\n".join(f"{label:<{width}}  {value}" for label, value in rows))


def _number(key: str, values: Mapping[str, Any]) -> str:
    value = values[key]
    if value is None:
        return "not defined"
    if key == "accuracy":
        low, high = values["accuracy_ci95"]
        return f"{value:.3f} (95 % interval {low:.3f} to {high:.3f})"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
