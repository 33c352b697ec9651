"""How all figures look.

Shape legend: N points.
"""

import io
import re
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY, INK = "#2a78d6", "#d9622b", "#3b7a4b", "#8a8a85", "#2b2b29"
PALE, GRID, PAPER = "#d8d8d4", "#e6e6e2", "#ffffff"
COLOURS = (BLUE, ORANGE, GREEN, "#8456b8", "#c2477f", "#00858a", "#9a6b00", INK, GREY)  # of groups, in turn
# What each colour is on a dark page; a figure has no others.
DARK = {
    BLUE: "#5ba3f5",
    ORANGE: "#f0875a",
    GREEN: "#6cbc82",
    GREY: "#9c9c97",
    INK: "#e6e5e0",
    PALE: "#55575c",
    GRID: "#34363b",
    PAPER: "#1d1f23",
    "#8456b8": "#b28ce2",
    "#c2477f": "#ea7fae",
    "#00858a": "#3dbcc1",
    "#9a6b00": "#d6a53a",
}
SIZE = (5.4, 4.0)  # inches; small, so that words stay readable on a telephone


def new_figure(size: tuple[float, float] = SIZE) -> "Figure":
    """An empty figure that no window and no global state of matplotlib knows of; size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=180, layout="constrained")


def style(axes: "Axes", title: str = "") -> None:
    """The look that all plots share."""
    axes.set_title(title, loc="left", fontsize=11, color=INK, pad=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(INK)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=3)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def note(axes: "Axes", text: str, at: tuple[float, float], side: str) -> None:
    """Words within the plot, at shares of its width and height."""
    height: Any = "top" if at[1] > 0.5 else "bottom"
    axes.text(*at, text, transform=axes.transAxes, ha=side, va=height, fontsize=9, color=INK)


def legend_below(axes: "Axes", columns: int = 2) -> None:
    """The legend under the axes, where it hides no point."""
    axes.figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )


def points(axes: "Axes", x_N: Tensor, accuracy_N: Tensor, pairs_N: Tensor, *, colour: str = BLUE) -> None:
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


def palettes(figure: "Figure") -> tuple[str, str]:
    """A figure as SVG for a light page, and the same for a dark one."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "rlhf_rm"}):  # the same figure is the same text
        figure.savefig(text, format="svg", metadata={"Date": None})
    # What matplotlib draws in black has no colour in the file, and takes that of the whole.
    light = text.getvalue().replace("<svg ", f'<svg fill="{INK}" ', 1).replace("#000000", INK)
    return light, re.sub("|".join(DARK), lambda found: DARK[found[0]], light)
