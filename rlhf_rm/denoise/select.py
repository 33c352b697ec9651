"""Which pairs a step of a recipe is for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_rm.denoise.base import Labels, check_share
from rlhf_rm.errors import UserError


@dataclass(frozen=True)
class Select:
    """Pairs by the rank of their strength before any flip, or by the strength itself.

    All conditions that are given have to hold; without any every pair is selected.

    Args:
        above: share of the pairs below which none is taken: 0.9 selects the strongest tenth.
        below: share of the pairs from which on none is taken: 0.1 selects the weakest tenth.
        weaker_than: mean strength that a pair has to lie below, as labelled now; None for any.
    """

    above: float = 0.0
    below: float = 1.0
    weaker_than: float | None = None

    def __call__(self, labels: Labels) -> Tensor:
        """Whether each pair is selected, (B,).

        Raises:
            UserError: a share outside [0, 1], or none between the two.
        """
        check_share("….above", self.above)
        check_share("….below", self.below)
        if self.above >= self.below:
            raise UserError(
                f"no pair lies above {self.above} and below {self.below}: let above be the smaller."
            )
        chosen: Tensor = (labels.rank >= self.above) & (labels.rank < self.below)
        if self.weaker_than is not None:
            chosen &= labels.mean < self.weaker_than
        return chosen if len(chosen) else torch.zeros(0, dtype=torch.bool)
