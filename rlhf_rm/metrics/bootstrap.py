"""How far an accuracy would move with other prompts."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def bootstrap_ci(
    correct_B: Tensor, groups: Sequence[str], *, resamples: int, seed: int, level: float = 0.95
) -> tuple[float, float] | None:
    """Confidence interval of the accuracy by the percentile bootstrap over prompts.

    Whole prompts are drawn with replacement, each with all its pairs, since the pairs of a prompt
    are not independent. Prompts with equally many pairs, equally many of them right, are
    interchangeable; so only how often each such kind is drawn is drawn, from a multinomial. The
    distribution is the same, and 100,000 pairs take milliseconds.

    Where all pairs are right, or none, every drawing is the same and says nothing: the end that is open is
    then the exact one of as many prompts, all right or none (Clopper and Pearson 1934, Biometrika 26(4),
    pages 404 to 413).

    Args:
        correct_B: whether each pair is ranked right, (B,).
        groups: the prompt of each pair, B strings.
        resamples: number of bootstrap samples.
        seed: the same seed gives the same interval, whatever the order of the pairs.
        level: coverage of the interval.

    Returns:
        Its ends, as shares; None with fewer than two prompts, which say nothing about other ones.
    """
    _, group_B = np.unique(np.asarray(groups), return_inverse=True)
    pairs_G = np.bincount(group_B)
    if len(pairs_G) < 2:
        return None
    right_G = np.bincount(group_B, weights=correct_B.to(torch.float64).numpy(force=True))
    tail = (1 - level) / 2
    if (right_G == pairs_G).all():
        return tail ** (1 / len(pairs_G)), 1.0
    if (right_G == 0).all():
        return 0.0, 1 - tail ** (1 / len(pairs_G))
    kinds, count = np.unique(np.stack([pairs_G, right_G], axis=1), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(pairs_G), count / count.sum(), size=resamples)
    pairs, right = (drawn @ kinds).T
    low, high = np.quantile(right / pairs, [tail, 1 - tail])
    return float(low), float(high)
