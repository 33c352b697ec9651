"""How all plots look, and what more than one of them draws.

Shape legend: N points.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY, INK = "#2a78d6", "#d9622b", "#3b7a4b", "#8a8a85", "#2b2b29"
SIZE = (6.4, 4.6)  # inches


def new_figure(size: tuple[float, float] = SIZE) -> "Figure":
    """An empty figure that no window and no global state of matplotlib knows of; size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=150, layout="constrained")


def style(axes: "Axes", title: str = "") -> None:
    """The look that all plots share."""
    axes.set_title(title, loc="left", fontsize=11, color=INK, pad=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e2", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=3)


def note(axes: "Axes", text: str, at: tuple[float, float], side: str) -> None:
    """Words within the plot, at shares of its width and height."""
    height: Any = "top" if at[1] > 0.5 else "bottom"
    axes.text(*at, text, transform=axes.transAxes, ha=side, va=height, fontsize=9, color=INK)


def points(axes: "Axes", x_N: Tensor, accuracy_N: Tensor, pairs_N: Tensor, colour: str = BLUE) -> None:
    """Points with their 95 % Wilson intervals, which hold for few pairs and for shares of 0 and 1 too."""
    z = 1.96
    centre = (accuracy_N + z**2 / (2 * pairs_N)) / (1 + z**2 / pairs_N)
    spread = accuracy_N * (1 - accuracy_N) / pairs_N + z**2 / (4 * pairs_N**2)
    half = z * spread.sqrt() / (1 + z**2 / pairs_N)
    below, above = (accuracy_N - centre + half).clamp(min=0), (centre + half - accuracy_N).clamp(min=0)
    axes.errorbar(
        x_N.tolist(), accuracy_N.tolist(), yerr=[below.tolist(), above.tolist()],
        fmt="o", color=colour, ecolor=colour, elinewidth=1.4, capsize=2.5, markersize=5,
    )  # fmt: skip
