"""How often the chosen response has the higher reward, ties apart.

Shape legend: B preference pairs.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


def correct_pairs(chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
    """Whether each pair is ranked right, (B,) bool; a tie is not."""
    return chosen_B > rejected_B


def tied_pairs(chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
    """Whether each pair's two rewards are the same, (B,) bool."""
    return chosen_B == rejected_B


class PairwiseAccuracy(Metric):
    """``accuracy``, the share of pairs that are ranked right, and ``ties``, the number of equal rewards."""

    full_state_update = False
    correct: Tensor
    ties: Tensor
    pairs: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("correct", "ties", "pairs"):
            self.add_state(name, default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, chosen_B: Tensor, rejected_B: Tensor) -> None:
        """Add the rewards of some pairs, each (B,)."""
        self.correct += correct_pairs(chosen_B, rejected_B).sum()
        self.ties += tied_pairs(chosen_B, rejected_B).sum()
        self.pairs += chosen_B.numel()

    def compute(self) -> dict[str, Tensor]:
        """Accuracy (NaN without pairs) and ties of all pairs so far."""
        return {"accuracy": self.correct / self.pairs, "ties": self.ties}
