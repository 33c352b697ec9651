"""Figures of how a reward model does on one preference set; bars are 95 % Wilson intervals over pairs.

Each function takes numbers (see :mod:`rlhf_rm.metrics.drawn`) and returns a figure to save
(``figure.savefig("reliability.png")``).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from rlhf_rm.plots.style import BLUE, GREY, INK, ORANGE, SIZE, new_figure, note, points, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = (
    ("right", "ranked as labelled", BLUE),
    ("wrong", "ranked against the label", ORANGE),
    ("tied", "tied", GREY),
)


def preference_figures(drawn: Mapping[str, Any], name: str) -> dict[str, "Figure"]:
    """Every figure of this page, by its name.

    Args:
        drawn: see :func:`rlhf_rm.metrics.drawn.drawn`.
        name: of the set, for the titles.
    """
    return {
        "reliability": reliability_diagram(drawn["reliability"], f"Reliability on {name}"),
        "margins": margin_histogram(drawn["margins"], f"Reward margins on {name}"),
        "length": accuracy_by_length(drawn["length"], f"Length bias on {name}"),
    }


def reliability_diagram(drawn: Mapping[str, Any], title: str) -> "Figure":
    """Accuracy by confidence, against the diagonal of a calibrated model, above the number of pairs."""
    bins = drawn["bins"]
    figure = new_figure((SIZE[0], 4.7))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    style(top, title)
    style(bottom)
    top.plot([0.5, 1], [0.5, 1], color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), label="calibrated")
    points(
        top, *(torch.tensor([float(one[key]) for one in bins]) for key in ("confidence", "accuracy", "pairs"))
    )
    top.set(ylabel="accuracy", xlim=(0.49, 1.01))
    top.set_ylim(top=1.03)
    told = f"expected calibration error {drawn['ece']:.3f}\nBrier score {drawn['brier']:.3f}"
    note(top, told, (0.98, 0.05), "right")
    top.legend(loc="upper left", frameon=False, labelcolor=INK)
    width = bins[0]["to"] - bins[0]["from"]
    left, pairs = [one["from"] for one in bins], [one["pairs"] for one in bins]
    bottom.bar(left, pairs, width=width * 0.92, align="edge", color=BLUE, alpha=0.75)
    bottom.set(xlabel="confidence of the model,  max(σ(Δ), 1 − σ(Δ))", ylabel="pairs")
    return figure


def margin_histogram(drawn: Mapping[str, Any], title: str) -> "Figure":
    """How many pairs have which reward difference, coloured by how the model ranks them."""
    edges = drawn["edges"]
    figure = new_figure()
    axes = figure.subplots()
    style(axes, title)
    below = [0] * (len(edges) - 1)
    width = edges[1] - edges[0]
    for name, label, colour in PARTS:
        pairs = drawn[name]
        if any(pairs):
            axes.bar(edges[:-1], pairs, 0.92 * width, below, align="edge", color=colour, label=label)
            below = [one + more for one, more in zip(below, pairs, strict=True)]
    axes.axvline(0, color=INK, linewidth=0.8)
    mean = drawn["mean"]
    axes.axvline(mean, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), label=f"mean {mean:.2f}")
    axes.set(xlabel="reward of chosen − reward of rejected", ylabel="pairs")
    told = f"accuracy {drawn['accuracy']:.3f}\n{drawn['pairs']:,} pairs, {drawn['ties']:,} ties"
    note(axes, told, (0.98, 0.97), "right")
    axes.legend(loc="upper left", frameon=False, labelcolor=INK, fontsize=9)
    axes.set_ylim(top=1.4 * max(below))  # room for legend and note above the bars
    return figure


def accuracy_by_length(drawn: Mapping[str, Any], title: str) -> "Figure":
    """Accuracy by how much longer the chosen response is: level without length bias, rising with it."""
    difference, accuracy, pairs = (
        torch.tensor([float(one[key]) for one in drawn["bins"]])
        for key in ("difference", "accuracy", "pairs")
    )
    figure = new_figure()
    axes = figure.subplots()
    style(axes, title)
    axes.axvline(0, color=INK, linewidth=0.8)
    overall = drawn["accuracy"]
    axes.axhline(overall, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), label=f"all pairs {overall:.3f}")
    axes.plot(difference.tolist(), accuracy.tolist(), color=BLUE, linewidth=1.2, alpha=0.5)
    points(axes, difference, accuracy, pairs)
    axes.set(
        xlabel="tokens of chosen − tokens of rejected  (mean of the bin)",
        ylabel="accuracy",
        ylim=(-0.03, 1.03),
    )
    note(axes, "← rejected is longer", (0.02, 0.05), "left")
    note(axes, "chosen is longer →", (0.98, 0.05), "right")
    axes.legend(loc="upper left", frameon=False, labelcolor=INK)
    return figure
