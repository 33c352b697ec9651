"""Whether σ(Δ) may be read as a probability, Δ being the reward difference of a pair.

A pair's confidence is max(σ(Δ), 1 − σ(Δ)), which lies in [0.5, 1]; the bins divide that range, so
that all of them are in use. Both metrics here are the same when a pair is written the other way
round, but for the label: so a tie (Δ = 0), where the model says that either may be better, counts
as half right in the expected calibration error, as its two orders would on average.

Shape legend: B preference pairs, N bins.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

BINS = 15  # of the expected calibration error, as in Guo et al. (arXiv 1706.04599)


@dataclass(frozen=True, slots=True)
class Reliability:
    """What a reliability diagram shows.

    Args:
        edges: confidences at which the bins begin and end, (N + 1,), from 0.5 to 1.
        pairs: number of pairs in each bin, (N,).
        confidence: mean confidence, (N,); NaN in an empty bin.
        accuracy: share that is ranked right, a tie being half right, (N,); NaN in an empty bin.
    """

    edges: Tensor
    pairs: Tensor
    confidence: Tensor
    accuracy: Tensor

    @property
    def expected_calibration_error(self) -> Tensor:
        """Mean over pairs of their bin's |accuracy − confidence|; NaN without pairs."""
        gap_N = (self.accuracy - self.confidence).abs().nan_to_num(0.0)
        return (self.pairs * gap_N).sum() / self.pairs.sum()


def reliability(difference_B: Tensor, bins: int = BINS) -> Reliability:
    """Accuracy by confidence, in equal-width bins of [0.5, 1], the last of them closed at 1.

    Args:
        difference_B: reward of chosen less that of rejected, (B,), no NaN.
        bins: number of bins.
    """
    return _from_sums(_bin_sums(difference_B, bins))


def expected_calibration_error(difference_B: Tensor, bins: int = BINS) -> Tensor:
    """How far accuracy lies from confidence, on average; a scalar in [0, 1], NaN without pairs."""
    return reliability(difference_B, bins).expected_calibration_error


def brier_score(difference_B: Tensor) -> Tensor:
    """Mean of (σ(Δ) − 1)², the label being that chosen is better; 0.25 for a coin, NaN without pairs."""
    return torch.sigmoid(-_widen(difference_B)).square().mean()


class CalibrationError(Metric):
    """:func:`expected_calibration_error` over batches and ranks."""

    full_state_update = False
    sums: Tensor

    def __init__(self, bins: int = BINS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("sums", default=torch.zeros(3, bins), dist_reduce_fx="sum")

    def update(self, chosen_B: Tensor, rejected_B: Tensor) -> None:
        """Add the rewards of some pairs, each (B,)."""
        self.sums += _bin_sums(_widen(chosen_B) - _widen(rejected_B), self.sums.shape[1])

    def compute(self) -> Tensor:
        """The error over all pairs so far."""
        return _from_sums(self.sums).expected_calibration_error


class BrierScore(Metric):
    """:func:`brier_score` over batches and ranks."""

    full_state_update = False
    total: Tensor
    pairs: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("pairs", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, chosen_B: Tensor, rejected_B: Tensor) -> None:
        """Add the rewards of some pairs, each (B,)."""
        self.total += torch.sigmoid(_widen(rejected_B) - _widen(chosen_B)).square().sum()
        self.pairs += chosen_B.numel()

    def compute(self) -> Tensor:
        """The score over all pairs so far."""
        return self.total / self.pairs


def _bin_sums(difference_B: Tensor, bins: int) -> Tensor:
    """Sums over the pairs of each bin, (3, N): pairs, confidence, right."""
    difference_B = _widen(difference_B.detach())
    confidence_B = torch.sigmoid(difference_B.abs())
    right_B = (difference_B.sign() + 1) / 2
    bin_B = ((confidence_B - 0.5) * 2 * bins).long().clamp_(max=bins - 1)
    columns = torch.stack([torch.ones_like(right_B), confidence_B, right_B])
    return columns.new_zeros(3, bins).index_add_(1, bin_B, columns)


def _from_sums(sums: Tensor) -> Reliability:
    pairs_N, confidence_N, right_N = sums
    edges = torch.linspace(0.5, 1.0, len(pairs_N) + 1, dtype=sums.dtype, device=sums.device)
    return Reliability(edges, pairs_N, confidence_N / pairs_N, right_N / pairs_N)


def _widen(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
