"""Preference strength by the vote of an ensemble.

Shape legend: M members, B preference pairs. Differences are in reward units.
"""

import torch
from torch import Tensor


def preference_strength(difference_MB: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the members' reward differences, each (B,), in float64.

    The deviation is the population's (divided by M): the members at hand are all there are. Source:
    paper, section 2.1, its equations of the mean and the standard deviation of preference strength.

    Args:
        difference_MB: r_m(chosen) − r_m(rejected), (M, B).

    Raises:
        ValueError: it has not two dimensions.
    """
    if difference_MB.ndim != 2:
        raise ValueError(f"difference_MB has shape {tuple(difference_MB.shape)}, not (members, pairs).")
    difference_MB = difference_MB.double()
    return difference_MB.mean(0), difference_MB.std(0, correction=0)


def vote_probability(difference_MB: Tensor) -> Tensor:
    """How probable the ensemble finds it that chosen is better, (B,): the mean of σ(d_m), in float64.

    Args:
        difference_MB: r_m(chosen) − r_m(rejected), (M, B).
    """
    return torch.sigmoid(difference_MB.double()).mean(0)


def strength_rank(mean_B: Tensor) -> Tensor:
    """Where each pair stands from the weakest preference to the strongest, (B,), in (0, 1).

    The k-th of B pairs, counted from 1, gets (k − ½) / B; pairs of equal strength keep their order.

    Args:
        mean_B: mean strengths, (B,).
    """
    rank_B = torch.empty(len(mean_B), dtype=torch.float64)
    order = torch.argsort(mean_B, stable=True)
    rank_B[order] = (torch.arange(len(mean_B), dtype=torch.float64) + 0.5) / len(mean_B)
    return rank_B
