"""Plots of a reward model on one preference set, for runs and for evaluations."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from rlhf_rm.plots.preference import accuracy_by_length, margin_histogram, reliability_diagram
from rlhf_rm.report.look_for import LOOK_FOR
from rlhf_rm.report.section import Plot

DRAWS = {
    "reliability": (reliability_diagram, "Reliability"),
    "margins": (margin_histogram, "Reward margins"),
    "length": (accuracy_by_length, "Length bias"),
}


def preference_plots(drawn: Mapping[str, Any], prefix: str, of: str) -> list[Plot]:
    """The reliability diagram, the margins and the length bias.

    Args:
        drawn: see :func:`rlhf_rm.metrics.drawn.drawn`.
        prefix: of the names of the plots.
        of: the set, for the titles.
    """
    return [
        Plot(f"{prefix}_{kind}", LOOK_FOR[kind], drawn[kind], partial(draw, title=f"{title} on {of}"))
        for kind, (draw, title) in DRAWS.items()
    ]
