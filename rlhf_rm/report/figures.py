"""Figures over groups of runs: one point or one curve a group, with 95 % intervals over seeds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rlhf_rm.plots import BLUE, GREEN, GREY, INK, ORANGE, new_figure, style
from rlhf_rm.report.runs import Group
from rlhf_rm.report.table import estimate, over_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (INK, BLUE, ORANGE, GREEN, "#8456b8", "#c2477f", "#00858a", "#9a6b00", GREY)
SLICE = "denoise.recipe.steps.slice.number"
FLIP = "denoise.recipe.steps.slice.flip"


def comparison(groups: Sequence[Group], name: str) -> "Figure":
    """A metric of each group, the last group at the bottom."""
    figure = new_figure((7.2, 1.6 + 0.42 * len(groups)))
    axes = figure.subplots()
    style(axes, f"{name}, mean over seeds with 95 % interval")
    axes.grid(axis="x", color="#e6e6e2", linewidth=0.8)
    axes.grid(visible=False, axis="y")
    for row, group in enumerate(groups):
        found = over_seeds(group, name)
        if found is None:
            continue
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [row, row], color=BLUE, linewidth=1.6)
        axes.plot([found.mean], [row], "o", color=BLUE, markersize=6)
        each = [run.metrics[name] for run in group.runs.values() if name in run.metrics]
        axes.plot(each, [row] * len(each), "|", color=GREY, markersize=9)
    axes.set_yticks(range(len(groups)), [group.name for group in groups])
    axes.invert_yaxis()
    return figure


def curves(groups: Sequence[Group], name: str) -> "Figure | None":
    """A metric over the steps of training; None if no run has logged it."""
    figure = new_figure((7.2, 4.6))
    axes = figure.subplots()
    style(axes, f"{name} over training, mean of the seeds with 95 % interval")
    drawn = False
    for group, colour in zip(groups, COLOURS * (1 + len(groups) // len(COLOURS)), strict=False):
        logged = [dict(run.curves.get(name, ())) for run in group.runs.values()]
        steps = sorted(set.intersection(*(set(one) for one in logged)))
        if not steps:
            continue
        found = [estimate([one[step] for one in logged]) for step in steps]
        axes.plot(steps, [one.mean for one in found], color=colour, linewidth=1.6, label=group.name)
        low = [one.low if one.low is not None else np.nan for one in found]
        high = [one.high if one.high is not None else np.nan for one in found]
        axes.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0)
        drawn = True
    if not drawn:
        return None
    axes.set(xlabel="optimiser step", ylabel=name)
    axes.legend(loc="best", frameon=False, fontsize=8)
    return figure


def by_slice(groups: Sequence[Group], name: str) -> "Figure | None":
    """A metric by the slice of strength that was trained on, as in the paper; None without slices."""
    sliced = [group for group in groups if SLICE in group.settings]
    if not sliced:
        return None
    figure = new_figure()
    axes = figure.subplots()
    style(axes, f"{name} after training on one tenth alone")
    flips = list(dict.fromkeys(group.settings.get(FLIP, "false").lower() for group in sliced))
    for flip, colour in zip(sorted(flips), (BLUE, ORANGE), strict=False):
        points = sorted(
            (int(group.settings[SLICE]) + 1, found)
            for group in sliced
            if group.settings.get(FLIP, "false").lower() == flip
            and (found := over_seeds(group, name)) is not None
        )
        x = [number for number, _ in points]
        axes.plot(x, [one.mean for _, one in points], "o-", color=colour, markersize=5, linewidth=1.2,
                  label="flipped" if flip == "true" else "as labelled")  # fmt: skip
        for number, one in points:
            if one.low is not None and one.high is not None:
                axes.plot([number, number], [one.low, one.high], color=colour, linewidth=1.6)
    axes.axhline(0.5, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set(xlabel="tenth by strength, the weakest first", ylabel=name)
    axes.legend(loc="lower right", frameon=False)
    return figure
