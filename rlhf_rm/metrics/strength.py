"""Accuracy by how strong the preference is.

Shape legend: B preference pairs, N bins.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from rlhf_rm.metrics.accuracy import correct_pairs
from rlhf_rm.metrics.correlation import average_ranks

BINS = 10


@dataclass(frozen=True, slots=True)
class StrengthBin:
    """The pairs between two quantiles of strength.

    Args:
        quantiles: where the bin begins and ends, as shares of all pairs.
        strengths: least and greatest strength in it, in reward units; None in an empty bin.
        pairs: number of pairs in it.
        accuracy: share of them that is ranked right, a tie being wrong; None in an empty bin.
    """

    quantiles: tuple[float, float]
    strengths: tuple[float, float] | None
    pairs: int
    accuracy: float | None


def strength_bins(strength_B: Tensor, bins: int = BINS) -> Tensor:
    """In which of bins of equally many pairs each pair lies, (B,), int64: 0 has the weakest preferences.

    Pairs of equal strength stay together (by their average rank), so bins may differ in size.

    Args:
        strength_B: mean strength of each pair, (B,), no NaN.
        bins: number of bins.
    """
    return ((average_ranks(strength_B) - 0.5) * bins / len(strength_B)).long()


def accuracy_by_strength(correct_B: Tensor, strength_B: Tensor, bins: int = BINS) -> list[StrengthBin]:
    """Accuracy in each of :func:`strength_bins`, from the weakest preferences to the strongest.

    Args:
        correct_B: whether each pair is ranked right, (B,).
        strength_B: mean strength of each pair, (B,), no NaN.
        bins: number of bins.
    """
    bin_B = strength_bins(strength_B, bins)
    return [
        _strength_bin((i / bins, (i + 1) / bins), correct_B[bin_B == i], strength_B[bin_B == i])
        for i in range(bins)
    ]


class AccuracyByStrength(Metric):
    """:func:`accuracy_by_strength` over batches and ranks: ``accuracy`` and ``pairs`` of each bin, (N,)."""

    full_state_update = False
    correct: list[Tensor] | Tensor
    strength: list[Tensor] | Tensor

    def __init__(self, bins: int = BINS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins = bins
        self.add_state("correct", default=[], dist_reduce_fx="cat")
        self.add_state("strength", default=[], dist_reduce_fx="cat")

    def update(self, chosen_B: Tensor, rejected_B: Tensor, strength_B: Tensor) -> None:
        """Add the rewards and the strengths of some pairs, each (B,)."""
        assert isinstance(self.correct, list)
        assert isinstance(self.strength, list)
        self.correct.append(correct_pairs(chosen_B, rejected_B))
        self.strength.append(strength_B)

    def compute(self) -> dict[str, Tensor]:
        """All pairs so far; the accuracy of an empty bin is NaN."""
        correct_B, strength_B = dim_zero_cat(self.correct).cpu(), dim_zero_cat(self.strength).cpu()
        table = accuracy_by_strength(correct_B, strength_B, self.bins)
        return {
            "accuracy": torch.tensor([torch.nan if row.accuracy is None else row.accuracy for row in table]),
            "pairs": torch.tensor([row.pairs for row in table]),
        }


def _strength_bin(quantiles: tuple[float, float], correct_B: Tensor, strength_B: Tensor) -> StrengthBin:
    if not len(correct_B):
        return StrengthBin(quantiles, None, 0, None)
    strengths = (float(strength_B.min()), float(strength_B.max()))
    return StrengthBin(quantiles, strengths, len(correct_B), float(correct_B.double().mean()))
