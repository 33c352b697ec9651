"""Figures that only a report has, from numbers of :mod:`rlhf_rm.report.numbers` and of what it reads."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from rlhf_rm.plots.style import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    GRID,
    INK,
    ORANGE,
    PALE,
    PAPER,
    SIZE,
    legend_below,
    new_figure,
    points,
    style,
)
from rlhf_rm.report.paper import DECILES, FLIPPED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = Mapping[str, Any]
DASHED = (0, (4, 3))
FEW = 12  # points of a curve that are marked one by one
LEGEND = 52  # characters of a name on one line of a legend


def comparison(numbers: Numbers) -> "Figure":
    """A metric of each group, the last group at the bottom."""
    figure, axes = _rows(numbers, f"{numbers['metric']}, mean over seeds with 95 % interval")
    for row, group in enumerate(numbers["groups"]):
        _interval(axes, row, group, BLUE)
        axes.plot(group["each"], [row] * len(group["each"]), "|", color=GREY, markersize=9)
    return figure


def curves(numbers: Numbers) -> "Figure":
    """A metric of each group over the steps of training."""
    figure = new_figure((SIZE[0], 4.3))
    axes = figure.subplots()
    style(axes, f"{numbers['metric']} over training")
    for number, group in enumerate(numbers["groups"]):
        colour = COLOURS[number % len(COLOURS)]
        marker = "o" if len(group["steps"]) <= FEW else None
        axes.plot(
            group["steps"],
            group["mean"],
            marker=marker,
            color=colour,
            linewidth=1.6,
            markersize=4,
            label=_wrapped(group["name"], LEGEND),
        )
        known = [
            (x, *ends)
            for x, *ends in zip(group["steps"], group["low"], group["high"], strict=True)
            if None not in ends
        ]
        if known:
            x, low, high = zip(*known, strict=True)
            axes.fill_between(x, low, high, color=colour, alpha=0.14, linewidth=0)
    axes.set(xlabel="optimiser step", ylabel=numbers["metric"])
    legend_below(axes, _columns(numbers["groups"]))
    return figure


def lines(numbers: Numbers, title: str) -> "Figure":
    """Several curves of one run, over the steps of training."""
    figure = new_figure()
    axes = figure.subplots()
    style(axes, title)
    for number, line in enumerate(numbers["lines"]):
        marker = "o" if len(line["steps"]) <= FEW else None
        axes.plot(
            line["steps"],
            line["values"],
            marker=marker,
            color=COLOURS[number],
            linewidth=1.5,
            markersize=4,
            label=line["name"],
        )
    axes.set_xlabel("optimiser step")
    legend_below(axes, columns=1 if any("," in line["name"] for line in numbers["lines"]) else 3)
    return figure


def by_slice(numbers: Numbers) -> "Figure":
    """A metric by the tenth that was trained on, the paper's beside it."""
    figure = new_figure((SIZE[0], 4.3))
    axes = figure.subplots()
    style(axes, f"{numbers['metric']} after training on one tenth alone")
    for number, (label, line) in enumerate(numbers["lines"].items()):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(
            line["tenths"],
            line["mean"],
            "o-",
            color=colour,
            markersize=5,
            linewidth=1.2,
            label=_wrapped(label, LEGEND),
        )
        for x, low, high in zip(line["tenths"], line["low"], line["high"], strict=True):
            if low is not None:
                axes.plot([x, x], [low, high], color=colour, linewidth=1.6)
    for label, found in (("the paper's, HH-RLHF", DECILES), ("the paper's, flipped", FLIPPED)):
        mark = "d" if found is FLIPPED else "s"
        axes.plot(
            list(found),
            list(found.values()),
            mark,
            color=GREY,
            fillstyle="none",
            markersize=4.5,
            linestyle=DASHED,
            linewidth=0.9,
            label=label,
        )
    axes.axhline(0.5, color=GREY, linewidth=0.9)
    axes.set(xlabel="tenth by strength, the weakest first", ylabel=numbers["metric"])
    axes.set_xticks(range(1, 11))
    legend_below(axes, 1 if max(map(len, numbers["lines"])) > LEGEND // 2 else 2)
    return figure


def reliability(numbers: Numbers) -> "Figure":
    """Accuracy by confidence of several groups or sets, against the diagonal of a calibrated model."""
    figure = new_figure((SIZE[0], 4.3))
    axes = figure.subplots()
    style(axes, "Reliability")
    axes.plot([0.5, 1], [0.5, 1], color=GREY, linewidth=1.2, linestyle=DASHED)
    for number, group in enumerate(numbers["groups"]):
        x, y = ([one[key] for one in group["bins"]] for key in ("confidence", "accuracy"))
        axes.plot(
            x,
            y,
            "o-",
            color=COLOURS[number % len(COLOURS)],
            markersize=3.5,
            linewidth=1.3,
            label=_wrapped(group["name"], LEGEND),
        )
    axes.set(xlabel="confidence of the model,  max(σ(Δ), 1 − σ(Δ))", ylabel="accuracy", xlim=(0.49, 1.01))
    legend_below(axes, _columns(numbers["groups"]))
    return figure


def length_bias(numbers: Numbers) -> "Figure":
    """Accuracy of each group where the rejected and where the chosen response is the longer one."""
    figure, axes = _rows(numbers, "Accuracy by which response is longer")
    names = (
        ("accuracy_longer_rejected", ORANGE, "rejected is longer"),
        ("accuracy_longer_chosen", BLUE, "chosen is longer"),
    )
    for row, group in enumerate(numbers["groups"]):
        axes.plot(
            [group[name]["mean"] for name, _, _ in names], [row, row], color=PALE, linewidth=3, zorder=1
        )
        for name, colour, label in names:
            _interval(axes, row, group[name], colour, label if row == 0 else None)
    legend_below(axes)
    return figure


def accuracy_of_sets(numbers: Numbers) -> "Figure":
    """Accuracy of one model on several sets, with intervals over prompts."""
    figure, axes = _rows(numbers, "Accuracy by set, with 95 % interval over prompts")
    for row, one in enumerate(numbers["groups"]):
        _interval(axes, row, one, BLUE)
    return figure


def accuracy_by_strength(bins: Sequence[Numbers], of: str) -> "Figure":
    """Accuracy on a set from the weakest preferences to the strongest."""
    figure = new_figure()
    axes = figure.subplots()
    style(axes, f"Accuracy by preference strength on {of}")
    full = [(i + 1.0, one) for i, one in enumerate(bins) if one["pairs"]]
    x, accuracy, pairs = (
        torch.tensor(column)
        for column in zip(*((i, one["accuracy"], float(one["pairs"])) for i, one in full), strict=True)
    )
    axes.plot(x.tolist(), accuracy.tolist(), color=BLUE, linewidth=1.2, alpha=0.5)
    points(axes, x, accuracy, pairs)
    axes.set(xlabel="tenth by strength, the weakest first", ylabel="accuracy", ylim=(-0.03, 1.03))
    axes.set_xticks(range(1, len(bins) + 1))
    return figure


def gold_against_proxy(numbers: Numbers) -> "Figure":
    """Where gold went as the reward model's score rose, from the start of each line to its dot."""
    figure = new_figure((SIZE[0], 4.3))
    axes = figure.subplots()
    style(axes, "Gold against the reward model")
    for number, line in enumerate(numbers["lines"]):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(line["reward"], line["gold"], color=colour, linewidth=1.5, label=line["name"])
        axes.plot(line["reward"][-1:], line["gold"][-1:], "o", color=colour, markersize=6)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set(xlabel="reward by the reward model", ylabel="gold")
    legend_below(axes, columns=3)
    return figure


def outcomes(numbers: Numbers) -> "Figure":
    """Win, tie and lose of several judgements as bars."""
    figure, axes = _rows(numbers, "Win, tie and lose")
    for row, one in enumerate(numbers["groups"]):
        left = 0.0
        for name, colour in (("win", GREEN), ("tie", PALE), ("lose", ORANGE), ("no_answer", GREY)):
            share = one[name]
            axes.barh(
                row, share, 0.56, left, color=colour, label=name.replace("_", " ") if row == 0 else None
            )
            if share > 0.06:
                ink = INK if colour == PALE else PAPER
                axes.text(
                    left + share / 2, row, f"{share:.0%}", ha="center", va="center", fontsize=9, color=ink
                )
            left += share
    axes.set(xlim=(0, 1), xlabel="share of the comparisons")
    legend_below(axes, columns=4)
    return figure


def _rows(numbers: Numbers, title: str) -> tuple["Figure", "Axes"]:
    """A figure with a row for each group, the last at the bottom."""
    groups = numbers["groups"]
    figure = new_figure((SIZE[0], 1.7 + 0.42 * len(groups)))
    axes = figure.subplots()
    style(axes)
    # Above the names too, since they leave the axes little width.
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.grid(visible=False, axis="y")
    axes.set_yticks(range(len(groups)), [_wrapped(group["name"]) for group in groups], fontsize=9)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    return figure, axes


def _interval(axes: "Axes", row: int, found: Numbers, colour: str, label: str | None = None) -> None:
    if found["low"] is not None:
        axes.plot([found["low"], found["high"]], [row, row], color=colour, linewidth=1.6)
    axes.plot([found["mean"]], [row], "o", color=colour, markersize=6, label=label)


def _columns(groups: Sequence[Numbers]) -> int:
    """Of a legend of these names."""
    longest = max(len(group["name"]) for group in groups)
    return 1 if longest > LEGEND // 2 else 2 if longest > LEGEND // 4 else 3


def _wrapped(name: str, width: int = 26) -> str:
    """A long name on two lines, or cut, so that it leaves room for what is drawn."""
    if len(name) <= width:
        return name
    at = name.rfind(" ", 0, width + 1)
    at = at if at > 0 else width
    first, rest = name[:at], name[at:].strip()
    return f"{first}\n{rest if len(rest) <= width else rest[: width - 1] + '…'}"
