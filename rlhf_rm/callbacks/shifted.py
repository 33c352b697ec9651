"""How far apart a reward model holds what the policy says now.

Shape legend: B pairs of responses to the same prompt.
"""

from typing import TYPE_CHECKING

import torch

from rlhf_rm.metrics.shifted import ShiftedRewards
from rlhf_rm.plots import BLUE, GREY, new_figure, note, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 40


def shifted_figure(before: ShiftedRewards, after: ShiftedRewards) -> "Figure":
    """Histograms of |r_i − r_j| on the held-out responses, before and after training.

    Source: paper, section 4, its figure of the reward differences in rounds.

    Args:
        before, after: rewards of the same responses.
    """
    difference = {"before": before.differences().abs(), "after": after.differences().abs()}
    # A few far pairs would leave the others a single bar.
    widest = float(torch.quantile(torch.cat(list(difference.values())).double(), 0.99)) or 1.0
    edges = torch.linspace(0, widest, BINS + 1).tolist()
    figure = new_figure()
    axes = figure.subplots()
    style(axes, "Reward differences of the policy's responses")
    for (name, values_B), colour in zip(difference.items(), (GREY, BLUE), strict=True):
        axes.hist(
            values_B.clamp(max=widest).tolist(),
            bins=edges,
            color=colour,
            alpha=0.65,
            label=f"{name} training",
        )
    axes.set(xlabel="|r_i − r_j|, the last bar and all beyond it", ylabel="pairs of responses")
    axes.legend(loc="upper right", frameon=False, fontsize=9)
    told = [(name, one.summary()) for name, one in (("before", before), ("after", after))]
    lines = [
        f"{name}: mean {one['spread']:.2f}"
        + (f", accuracy by gold {one['accuracy_gold']:.3f}" if "accuracy_gold" in one else "")
        for name, one in told
    ]
    note(axes, "\n".join(lines), (0.98, 0.72), "right")
    return figure
