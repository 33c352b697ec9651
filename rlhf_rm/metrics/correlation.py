"""Whether a reward model just likes length: rank correlation of reward and tokens.

Shape legend: N values (of responses).
"""

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


def average_ranks(values_N: Tensor) -> Tensor:
    """Ranks from 1 to N, (N,), float64; equal values share the mean of their ranks."""
    _, inverse_N, counts = values_N.unique(return_inverse=True, return_counts=True)
    counts = counts.double()
    return (counts.cumsum(0) - (counts - 1) / 2)[inverse_N]


def spearman(x_N: Tensor, y_N: Tensor) -> float | None:
    """Spearman's rank correlation in [−1, 1], ties by average ranks.

    Args:
        x_N, y_N: values, (N,), no NaN.

    Returns:
        The correlation, or None where it does not exist: fewer than two values, or all of one side
        equal.
    """
    if len(x_N) < 2:
        return None
    x_N, y_N = average_ranks(x_N), average_ranks(y_N)
    x_N, y_N = x_N - x_N.mean(), y_N - y_N.mean()
    norm = (x_N.square().sum() * y_N.square().sum()).sqrt()
    return float((x_N * y_N).sum() / norm) if norm > 0 else None


class SpearmanLength(Metric):
    """:func:`spearman` of the rewards and token counts of all responses; NaN where it does not exist."""

    full_state_update = False
    rewards: list[Tensor] | Tensor
    tokens: list[Tensor] | Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("rewards", default=[], dist_reduce_fx="cat")
        self.add_state("tokens", default=[], dist_reduce_fx="cat")

    def update(self, reward_N: Tensor, tokens_N: Tensor) -> None:
        """Add the rewards of some responses and the number of their tokens, each (N,)."""
        assert isinstance(self.rewards, list)
        assert isinstance(self.tokens, list)
        self.rewards.append(reward_N.detach())
        self.tokens.append(tokens_N)

    def compute(self) -> Tensor:
        """The correlation over all responses so far."""
        value = spearman(dim_zero_cat(self.rewards).cpu(), dim_zero_cat(self.tokens).cpu())
        return torch.tensor(math.nan if value is None else value)
