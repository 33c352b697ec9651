"""Where the states that a reward model reads lie, on the two main axes of what is looked at.

Shape legend: B preference pairs, N states, D hidden size.
"""

from typing import Any

import torch
from torch import Tensor

States = tuple[Tensor, Tensor]  # of the chosen and of the rejected responses, (B, D) each


def projected(before: States, after: States) -> dict[str, Any]:
    """Chosen and rejected responses, and their differences, before and after training.

    The axes are the principal components of what is looked at, so each picture has its own.

    Args:
        before, after: states of the same pairs, (B, D) each.

    Returns:
        For ``before`` and ``after``: ``cosine`` (mean, of a pair's two states); ``responses`` with the ``x``
        and ``y`` of ``chosen`` and ``rejected``; ``differences`` with those of ``chosen_less_rejected``
        (turned round they are the points mirrored at the origin); of both the ``share`` of the variance
        on each axis.
    """
    found = {}
    for name, states in (("before", before), ("after", after)):
        chosen_BD, rejected_BD = (one.double() for one in states)
        difference_BD = chosen_BD - rejected_BD
        responses, share = _main_axes(torch.cat([chosen_BD, rejected_BD]))
        differences, share_of_differences = _main_axes(torch.cat([difference_BD, -difference_BD]))
        count = len(chosen_BD)
        found[name] = {
            "cosine": float(torch.cosine_similarity(chosen_BD, rejected_BD).mean()),
            "responses": {
                "share": share,
                "chosen": _points(responses[:count]),
                "rejected": _points(responses[count:]),
            },
            "differences": {
                "share": share_of_differences,
                "chosen_less_rejected": _points(differences[:count]),
            },
        }
    return found


def _main_axes(state_ND: Tensor) -> tuple[Tensor, list[float]]:
    """The states on their two main axes, (N, 2), and the share of the variance on each."""
    centred_ND = state_ND - state_ND.mean(0)
    _, size_D, axis_DD = torch.linalg.svd(centred_ND, full_matrices=False)
    share_2 = size_D[:2] ** 2 / (size_D**2).sum().clamp(min=1e-30)
    return centred_ND @ axis_DD[:2].T, share_2.tolist()


def _points(at_N2: Tensor) -> dict[str, list[float]]:
    """Four digits are finer than any picture."""
    x, y = ([float(f"{value:.4g}") for value in column] for column in at_N2.T.tolist())
    return {"x": x, "y": y}
