"""What the figures of a vote show, as numbers that JSON holds.

Shape legend: B preference pairs.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlhf_rm.data.strengths import Strengths

BARS = 60  # of a histogram
BINS = 20  # of the U


def drawn(strengths: Strengths, summary: Mapping[str, Any]) -> dict[str, Any]:
    """``strength``, ``std``, ``std_by_strength``, and where labels can be checked ``agreement``.

    Args:
        strengths: of all pairs.
        summary: see :func:`rlhf_rm.voting.summary.summarise`.
    """
    mean, std = strengths.mean, strengths.std
    low, high = min(0.0, mean.min()), max(0.0, mean.max())
    width = (high - low) / BARS or 1.0
    first = np.floor(low / width)
    # No bar spans 0.
    edges = width * np.arange(first, max(np.ceil(high / width), first + 1) + 1)
    from_zero = np.linspace(0, std.max() or 1.0, BARS + 1)
    found: dict[str, Any] = {
        "strength": {
            "pairs": _histogram(mean, edges),
            "edges": edges.tolist(),
            "below_zero": float((mean < 0).mean()),
            "median": float(np.median(mean)),
        },
        "std": {"pairs": _histogram(std, from_zero), "edges": from_zero.tolist()},
        "std_by_strength": _std_by_strength(mean, std),
    }
    if "agreement" in summary:
        found["agreement"] = {"reference": summary["reference"], "bins": summary["agreement"]}
    return found


def _histogram(values: NDArray[np.float64], edges: NDArray[np.float64]) -> list[int]:
    return [int(count) for count in np.histogram(values, edges)[0]]


def _std_by_strength(mean: NDArray[np.float64], std: NDArray[np.float64]) -> list[dict[str, float]]:
    """The quartiles of the deviation in bins of equally many pairs, the weakest first."""
    order = np.argsort(mean, kind="stable")
    rows = []
    for group in (group for group in np.array_split(order, BINS) if len(group)):
        low, median, high = np.quantile(std[group], (0.25, 0.5, 0.75)).tolist()
        rows.append({"mean": float(mean[group].mean()), "low": low, "median": median, "high": high})
    return rows
