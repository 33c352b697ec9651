"""A picture of the states that a reward model reads, before and after training.

Shape legend: B preference pairs, D hidden size.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rlhf_rm.plots import BLUE, GREEN, GREY, ORANGE, new_figure, note, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

States = tuple[Tensor, Tensor]  # of the chosen and of the rejected responses, (B, D) each


def embedding(before: States, after: States) -> "Figure":
    """Chosen and rejected responses, and their differences, on the two main axes of each.

    The axes are the principal components of what is shown in a panel, so they are its own.

    Args:
        before, after: states of the same pairs, (B, D) each.
    """
    figure = new_figure((9.2, 8.0))
    for row, (when, states) in zip(
        figure.subplots(2, 2), (("before", before), ("after", after)), strict=True
    ):
        chosen_BD, rejected_BD = (one.double() for one in states)
        style(row[0], f"Responses, {when} training")
        _scatter(row[0], {"chosen": (chosen_BD, BLUE), "rejected": (rejected_BD, ORANGE)})
        difference_BD = chosen_BD - rejected_BD
        style(row[1], f"Differences, {when} training")
        _scatter(
            row[1], {"chosen − rejected": (difference_BD, GREEN), "rejected − chosen": (-difference_BD, GREY)}
        )
        cosine = torch.cosine_similarity(chosen_BD, rejected_BD).mean()
        note(row[0], f"mean cosine of chosen and rejected {float(cosine):.3f}", (0.02, 0.02), "left")
    return figure


def _scatter(axes: "Axes", groups: dict[str, tuple[Tensor, str]]) -> None:
    points_ND = torch.cat([one for one, _ in groups.values()])
    centre_D = points_ND.mean(0)
    _, size_D, axis_DD = torch.linalg.svd(points_ND - centre_D, full_matrices=False)
    for name, (one_BD, colour) in groups.items():
        x, y = ((one_BD - centre_D) @ axis_DD[:2].T).T.tolist()
        axes.scatter(x, y, s=9, color=colour, alpha=0.6, linewidths=0, label=name)
    share_2 = size_D[:2] ** 2 / (size_D**2).sum().clamp(min=1e-30)
    axes.set(
        xlabel=f"component 1 ({float(share_2[0]):.0%} of the variance)",
        ylabel=f"component 2 ({float(share_2[1]):.0%})",
    )
    axes.legend(loc="upper right", frameon=False, fontsize=8)
