"""The figures of a vote, as in the paper's section 2.1.

Shape legend: B preference pairs, N bins.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rlhf_rm.data.strengths import Strengths
from rlhf_rm.plots import BLUE, GREY, INK, ORANGE, new_figure, note, points, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 20  # of the U


def vote_figures(strengths: Strengths, summary: Mapping[str, Any]) -> dict[str, "Figure"]:
    """Every figure of this page, by its name.

    Args:
        strengths: of all pairs.
        summary: see :func:`rlhf_rm.voting.summary.summarise`.
    """
    figures = {"strength": strength_histogram(strengths), "std": std_by_strength(strengths)}
    if "agreement" in summary:
        figures["agreement"] = agreement_by_strength(summary["agreement"], summary["reference"])
    return figures


def strength_histogram(strengths: Strengths) -> "Figure":
    """How many pairs have which mean strength, and which deviation between members."""
    figure = new_figure((6.4, 5.8))
    top, bottom = figure.subplots(2, 1, height_ratios=(2, 1))
    style(top, f"Preference strength of {len(strengths):,} pairs")
    below = strengths.mean < 0
    low, high = min(0.0, strengths.mean.min()), max(0.0, strengths.mean.max())
    width = (high - low) / 60 or 1.0
    first = np.floor(low / width)
    edges = width * np.arange(first, max(np.ceil(high / width), first + 1) + 1)
    top.hist(
        [strengths.mean[below].tolist(), strengths.mean[~below].tolist()],
        edges.tolist(),
        stacked=True,
        color=[ORANGE, BLUE],
        label=["against the label", "with the label"],
        rwidth=0.92,
    )
    top.axvline(0, color=INK, linewidth=0.8)
    top.set(xlabel="mean of the members' reward differences", ylabel="pairs")
    note(top, f"{below.mean():.1%} below zero\nmedian {np.median(strengths.mean):.2f}", (0.98, 0.95), "right")
    top.legend(loc="upper left", frameon=False)
    top.margins(y=0.25)
    style(bottom)
    bottom.hist(strengths.std.tolist(), 60, color=GREY, rwidth=0.92)
    bottom.set(xlabel="standard deviation between members", ylabel="pairs")
    return figure


def std_by_strength(strengths: Strengths) -> "Figure":
    """The deviation between members over the mean strength: a U where strong preferences divide them."""
    figure = new_figure()
    axes = figure.subplots()
    style(axes, "Where the members differ")
    order = np.argsort(strengths.mean, kind="stable")
    groups = [group for group in np.array_split(order, BINS) if len(group)]
    mean = [strengths.mean[group].mean() for group in groups]
    quartiles = np.array([np.quantile(strengths.std[group], (0.25, 0.5, 0.75)) for group in groups]).T
    axes.fill_between(
        mean, quartiles[0], quartiles[2], color=BLUE, alpha=0.18, linewidth=0, label="middle half"
    )
    axes.plot(mean, quartiles[1], color=BLUE, marker="o", markersize=4, linewidth=1.4, label="median")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set(xlabel="mean strength of the pairs of a bin", ylabel="standard deviation between members")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", frameon=False)
    return figure


def agreement_by_strength(bins: Sequence[Mapping[str, Any]], reference: str) -> "Figure":
    """How often the reference calls the label right, from the weakest tenth to the strongest.

    Args:
        bins: see :func:`rlhf_rm.voting.summary.agreement`.
        reference: its name.
    """
    figure = new_figure()
    axes = figure.subplots()
    style(axes, f"Labels that {reference} agrees with, by strength")
    full = [(i, one) for i, one in enumerate(bins) if one["pairs"]]
    x = torch.tensor([i + 1.0 for i, _ in full])
    share = torch.tensor([one["agreement"] for _, one in full])
    axes.plot(x.tolist(), share.tolist(), color=BLUE, linewidth=1.2, alpha=0.5)
    points(axes, x, share, torch.tensor([float(one["pairs"]) for _, one in full]))
    axes.axhline(0.5, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set(xlabel="tenth by strength, the weakest first", ylabel="share of labels", ylim=(-0.03, 1.03))
    axes.set_xticks(range(1, len(bins) + 1))
    return figure
