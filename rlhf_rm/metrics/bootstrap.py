"""How far an accuracy would move with other prompts."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def bootstrap_ci(
    correct_B: Tensor,
    groups: Sequence[str],
    *,
    resamples: int,
    seed: int,
    level: float = 0.95,
    ends: tuple[float, float] = (0.0, 1.0),
) -> tuple[float, float] | None:
    """Confidence interval of the accuracy by the percentile bootstrap over prompts.

    Whole prompts are drawn with replacement, each with all its pairs, since the pairs of a prompt
    are not independent. Prompts with equally many pairs, equally many of them right, are
    interchangeable; so only how often each such kind is drawn is drawn, from a multinomial. The
    distribution is the same, and 100,000 pairs take milliseconds.

    Where all prompts are alike, the bootstrap would be a point: see :func:`interval_of_equals`.

    Args:
        correct_B: whether each pair is ranked right, (B,); or another number of each.
        groups: the prompt of each pair, B strings.
        resamples: number of bootstrap samples.
        seed: the same seed gives the same interval, whatever the order of the pairs.
        level: coverage of the interval.
        ends: the least and the largest that a number can be.

    Returns:
        Its ends; None with fewer than two prompts, which say nothing about other ones.
    """
    _, group_B = np.unique(np.asarray(groups), return_inverse=True)
    pairs_G = np.bincount(group_B)
    if len(pairs_G) < 2:
        return None
    right_G = np.bincount(group_B, weights=correct_B.to(torch.float64).numpy(force=True))
    share_G = right_G / pairs_G
    if share_G.min() == share_G.max():
        return interval_of_equals(float(share_G[0]), len(share_G), level=level, ends=ends)
    kinds, count = np.unique(np.stack([pairs_G, right_G], axis=1), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(pairs_G), count / count.sum(), size=resamples)
    pairs, right = (drawn @ kinds).T
    tail = (1 - level) / 2
    low, high = np.quantile(right / pairs, [tail, 1 - tail])
    return float(low), float(high)


def interval_of_equals(
    value: float, number: int, *, level: float, ends: tuple[float, float]
) -> tuple[float, float]:
    """Confidence interval of a mean from numbers that are all the same.

    None of them is another number, so at most 1 − ((1 − level) / 2)^(1/n) of all are, by the exact interval
    of a share of which none was seen (Clopper and Pearson 1934, Biometrika 26(4), pages 404 to 413), each as
    far away as it can be.

    Args:
        value: what all of them are.
        number: how many there are, n.
        level: coverage of the interval.
        ends: the least and the largest that one can be.
    """
    others = 1 - ((1 - level) / 2) ** (1 / number)
    low, high = ends
    return value - others * (value - low), value + others * (high - value)


def share_interval(count: int, number: int) -> tuple[float, float] | None:
    """95 % interval of a share of independent ones, such as responses that end: never a point.

    Source: Wilson 1927, Journal of the American Statistical Association 22(158), pages 209 to 212.

    Args:
        count: how many of those that were seen do.
        number: how many were seen.

    Returns:
        Its ends; None of fewer than two, which say nothing of others.
    """
    from scipy.stats import binomtest

    if number < 2:
        return None
    low, high = binomtest(count, number).proportion_ci(method="wilson")
    return float(low), float(high)
