"""MetaRM's objective: how far apart a reward model holds the responses to a prompt.

Shape legend: B pairs of responses to the same prompt, K responses to a prompt. Rewards are in reward units.
"""

import torch
from torch import Tensor


def difference_objective(first_B: Tensor, second_B: Tensor) -> Tensor:
    """σ(|r_i − r_j|) of two responses to one prompt, (B,): from 0.5, where they are tied, to 1.

    With :func:`pair_weight` as weights its sum over the pairs i < j of a prompt's K responses is the
    difference objective J = (2/K²) Σ_{i<j} σ(|r_i − r_j|), which lies in [(K − 1)/(2K), (K − 1)/K). It is
    to be maximised. At a tie, where the absolute value has no derivative, the gradient is 0.

    Source: MetaRM (arXiv 2405.00438), section 2; paper, section 4, the difference loss.

    Args:
        first_B, second_B: rewards r_i and r_j, (B,).

    Returns:
        (B,), in float32 (float64 where the rewards are).

    Raises:
        ValueError: shapes differ.
    """
    if first_B.shape != second_B.shape:
        raise ValueError(f"second_B has shape {tuple(second_B.shape)}, first_B {tuple(first_B.shape)}.")
    dtype = torch.promote_types(first_B.dtype, torch.float32)
    return torch.sigmoid((first_B.to(dtype) - second_B.to(dtype)).abs())


def pair_weight(responses: int) -> float:
    """What each pair of K responses counts in J: 2/K²; see :func:`difference_objective`."""
    return 2 / responses**2
