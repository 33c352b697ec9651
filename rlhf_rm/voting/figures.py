"""The figures of a vote, as in the paper's section 2.1; each from numbers of :mod:`rlhf_rm.voting.drawn`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from rlhf_rm.plots.style import BLUE, GREY, INK, ORANGE, SIZE, new_figure, note, points, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = ("strength", "std", "agreement")


def vote_figures(drawn: Mapping[str, Any]) -> dict[str, "Figure"]:
    """Every figure of this page, by its name.

    Args:
        drawn: see :func:`rlhf_rm.voting.drawn.drawn`.
    """
    figures = {
        "strength": strength_histogram(drawn),
        "std": std_by_strength(drawn["std_by_strength"]),
    }
    if "agreement" in drawn:
        figures["agreement"] = agreement_by_strength(drawn["agreement"])
    return figures


def strength_histogram(drawn: Mapping[str, Any]) -> "Figure":
    """How many pairs have which mean strength, and which deviation between members."""
    figure = new_figure((SIZE[0], 4.7))
    top, bottom = figure.subplots(2, 1, height_ratios=(2, 1))
    strength, std = drawn["strength"], drawn["std"]
    style(top, f"Preference strength of {sum(strength['pairs']):,} pairs")
    left, width = strength["edges"][:-1], strength["edges"][1] - strength["edges"][0]
    for label, colour, negative in (("against the label", ORANGE, True), ("with the label", BLUE, False)):
        bars = [(x, n) for x, n in zip(left, strength["pairs"], strict=True) if (x < -width / 2) == negative]
        top.bar(
            [x for x, _ in bars], [n for _, n in bars], 0.92 * width, align="edge", color=colour, label=label
        )
    top.axvline(0, color=INK, linewidth=0.8)
    top.set(xlabel="mean of the members' reward differences", ylabel="pairs")
    note(
        top,
        f"{strength['below_zero']:.1%} below zero\nmedian {strength['median']:.2f}",
        (0.98, 0.95),
        "right",
    )
    top.legend(loc="upper left", frameon=False, labelcolor=INK, fontsize=9)
    top.set_ylim(top=1.35 * max(strength["pairs"]))
    style(bottom)
    bottom.stairs(std["pairs"], std["edges"], fill=True, color=GREY)
    bottom.set(xlabel="standard deviation between members", ylabel="pairs")
    return figure


def std_by_strength(bins: Sequence[Mapping[str, float]]) -> "Figure":
    """The deviation between members over the mean strength: a U where strong preferences divide them."""
    figure = new_figure()
    axes = figure.subplots()
    style(axes, "Where the members differ")
    mean, low, median, high = ([one[key] for one in bins] for key in ("mean", "low", "median", "high"))
    axes.fill_between(mean, low, high, color=BLUE, alpha=0.18, linewidth=0, label="middle half")
    axes.plot(mean, median, color=BLUE, marker="o", markersize=4, linewidth=1.4, label="median")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set(xlabel="mean strength of the pairs of a bin", ylabel="standard deviation between members")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right", frameon=False, labelcolor=INK)
    return figure


def agreement_by_strength(drawn: Mapping[str, Any]) -> "Figure":
    """How often the reference calls the label right, from the weakest tenth to the strongest."""
    figure = new_figure()
    axes = figure.subplots()
    style(axes, f"Labels that {drawn['reference']} agrees with, by strength")
    full = [(i, one) for i, one in enumerate(drawn["bins"]) if one["pairs"]]
    x = torch.tensor([i + 1.0 for i, _ in full])
    share = torch.tensor([one["agreement"] for _, one in full])
    axes.plot(x.tolist(), share.tolist(), color=BLUE, linewidth=1.2, alpha=0.5)
    points(axes, x, share, torch.tensor([float(one["pairs"]) for _, one in full]))
    axes.axhline(0.5, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set(xlabel="tenth by strength, the weakest first", ylabel="share of labels", ylim=(-0.03, 1.03))
    axes.set_xticks(range(1, len(drawn["bins"]) + 1))
    return figure
