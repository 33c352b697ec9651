"""A picture of the states that a reward model reads, before and after training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rlhf_rm.plots.style import BLUE, GREEN, GREY, INK, ORANGE, SIZE, new_figure, note, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Mapping[str, list[float]]  # x and y


def embedding(drawn: Mapping[str, Any]) -> "Figure":
    """Chosen and rejected responses, and their differences, before and after training.

    Args:
        drawn: see :func:`rlhf_rm.metrics.embedding.projected`.
    """
    figure = new_figure((2 * SIZE[0], 2 * SIZE[1]))
    for row, when in zip(figure.subplots(2, 2), ("before", "after"), strict=True):
        responses(row[0], drawn[when], when)
        differences(row[1], drawn[when], when)
    return figure


def responses(axes: "Axes", drawn: Mapping[str, Any], when: str) -> None:
    """The states of chosen and rejected responses."""
    found = drawn["responses"]
    style(axes, f"Responses, {when} training")
    _scatter(
        axes, {"chosen": (found["chosen"], BLUE), "rejected": (found["rejected"], ORANGE)}, found["share"]
    )
    note(axes, f"mean cosine of chosen and rejected {drawn['cosine']:.3f}", (0.02, 0.02), "left")


def differences(axes: "Axes", drawn: Mapping[str, Any], when: str) -> None:
    """The differences of a pair's states, taken both ways."""
    found = drawn["differences"]
    style(axes, f"Differences, {when} training")
    given = found["chosen_less_rejected"]
    turned = {name: [-value for value in given[name]] for name in ("x", "y")}
    parts = {"chosen − rejected": (given, GREEN), "rejected − chosen": (turned, GREY)}
    _scatter(axes, parts, found["share"])


def _scatter(axes: "Axes", groups: Mapping[str, tuple[Points, str]], share: list[float]) -> None:
    for name, (at, colour) in groups.items():
        # As pixels within an SVG: hundreds of points would be most of a page.
        axes.scatter(
            at["x"], at["y"], s=9, color=colour, alpha=0.6, linewidths=0, label=name, rasterized=True
        )
    axes.set(xlabel=f"component 1 ({share[0]:.0%} of the variance)", ylabel=f"component 2 ({share[1]:.0%})")
    axes.margins(y=0.16)  # room for legend and note
    axes.legend(loc="upper right", frameon=False, fontsize=8, labelcolor=INK)
