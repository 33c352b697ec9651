"""The figures of rounds of iterated RLHF, from the rows of their table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlhf_rm.judging.base import LOSE, TIE, WIN
from rlhf_rm.plots.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, PAPER, new_figure, style
from rlhf_rm.rounds.table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OUTCOMES = ((WIN, GREEN), (TIE, PALE), (LOSE, ORANGE))
ACCURACIES = (
    ("accuracy_policy", "on the policy's responses, by gold", BLUE),
    ("accuracy_test", "on the original test pairs", GREY),
)


def rounds_figure(rows: Sequence[Row]) -> "Figure":
    """Win, tie and lose by round, and where they are known the reward model's accuracy, gold and reward."""
    panels = [outcomes]
    panels += [accuracies] if any(has_accuracy(row) for row in rows) else []
    panels += [scores] if all("reward" in row for row in rows) else []
    figure = new_figure((4.6 * len(panels), 4.2))
    for axes, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes, rows)
    return figure


def outcomes(axes: "Axes", rows: Sequence[Row]) -> None:
    """Shares of win, tie and lose."""
    style(axes, "Against the first policy")
    number = [row["round"] for row in rows]
    bottom = [0.0] * len(rows)
    for name, colour in OUTCOMES:
        share = [row[name] for row in rows]
        axes.bar(number, share, bottom=bottom, color=colour, width=0.62, label=name)
        for x, y, height in zip(number, bottom, share, strict=True):
            if height > 0.05:
                ink = INK if colour == PALE else PAPER
                axes.text(x, y + height / 2, f"{height:.0%}", ha="center", va="center", fontsize=9, color=ink)
        bottom = [y + height for y, height in zip(bottom, share, strict=True)]
    axes.set(ylim=(0, 1), ylabel="share of the comparisons")
    _by_round(axes, rows, columns=3)


def has_accuracy(row: Row) -> bool:
    """Whether the reward model was measured: with greedy answers and without a test it is not."""
    return any(name in row for name, *_ in ACCURACIES)


def accuracies(axes: "Axes", rows: Sequence[Row]) -> None:
    """How often the reward model ranks pairs right."""
    style(axes, "Accuracy of the reward model")
    for name, label, colour in ACCURACIES:
        found = [(row["round"], row[name], row[f"{name}_ci95"]) for row in rows if name in row]
        if not found:
            continue
        x, y = [one[0] for one in found], [one[1] for one in found]
        axes.plot(x, y, "o-", color=colour, label=label, markersize=5)
        for at, _, interval in found:
            if interval is not None:
                axes.plot([at, at], interval, color=colour, linewidth=1.4)
    axes.set_ylabel("accuracy, with 95 % intervals")
    _by_round(axes, rows)


def scores(axes: "Axes", rows: Sequence[Row]) -> None:
    """What the policy gets from the reward model of its round, and from gold."""
    style(axes, "What the policy gets")
    number = [row["round"] for row in rows]
    axes.plot(number, [row["reward"] for row in rows], "o-", color=BLUE, label="reward model of the round")
    if all("gold" in row for row in rows):
        axes.plot(number, [row["gold"] for row in rows], "o-", color=ORANGE, label="gold")
    axes.set_ylabel("mean over the test prompts")
    _by_round(axes, rows)


def spreads(axes: "Axes", rows: Sequence[Row]) -> None:
    """How far apart the reward model holds responses of the policy; rounds that have ``apart``."""
    style(axes, "Reward differences of the policy's responses")
    for when, shift, colour in (("before", -0.12, GREY), ("after", 0.12, BLUE)):
        at = [row["round"] + shift for row in rows]
        low, first, median, third, high = zip(*(row["apart"][when] for row in rows), strict=True)
        axes.vlines(at, low, high, color=colour, linewidth=1.2)
        axes.vlines(at, first, third, color=colour, linewidth=6, alpha=0.45)
        axes.plot(at, median, "o-", color=colour, linewidth=1, markersize=5, label=f"{when} training")
    axes.set_ylabel("|r_i − r_j|")
    axes.set_ylim(bottom=0)
    _by_round(axes, rows)


def _by_round(axes: "Axes", rows: Sequence[Row], columns: int = 1) -> None:
    axes.set_xticks([row["round"] for row in rows])
    axes.set_xlabel("round")
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
