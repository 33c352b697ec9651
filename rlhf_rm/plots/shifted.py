"""How far apart a reward model holds what the policy says now."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rlhf_rm.plots.style import BLUE, GREY, INK, new_figure, note, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def shifted_figure(drawn: Mapping[str, Any]) -> "Figure":
    """Histograms of |r_i − r_j| on the held-out responses, before and after training.

    Source: paper, section 4, its figure of the reward differences in rounds.

    Args:
        drawn: see :func:`rlhf_rm.metrics.shifted.spread`.
    """
    figure = new_figure()
    axes = figure.subplots()
    style(axes, "Reward differences of the policy's responses")
    for name, colour in (("before", GREY), ("after", BLUE)):
        axes.stairs(
            drawn[name]["pairs"],
            drawn["edges"],
            fill=True,
            color=colour,
            alpha=0.65,
            label=f"{name} training",
        )
    axes.set(xlabel="|r_i − r_j|, the last bar and all beyond it", ylabel="pairs of responses")
    axes.legend(loc="upper right", frameon=False, fontsize=9, labelcolor=INK)
    lines = [
        f"{name}: mean {drawn[name]['spread']:.2f}"
        + (f", accuracy by gold {drawn[name]['accuracy_gold']:.3f}" if "accuracy_gold" in drawn[name] else "")
        for name in ("before", "after")
    ]
    note(axes, "\n".join(lines), (0.98, 0.72), "right")
    return figure
