"""How well a reward model tells apart what a policy says now.

Shape legend: B pairs of responses to the same prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from rlhf_rm.functional.meta import difference_objective

BINS = 40  # of the histogram
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class ShiftedRewards:
    """Rewards of responses to some prompts, in pairs to the same prompt.

    Args:
        first_B, second_B: rewards, float32.
        weight_B: of each pair in its prompt's objective, 2/K².
        first_gold_B, second_gold_B: true rewards; NaN where they are not known.
        prompts: how many.
    """

    first_B: Tensor
    second_B: Tensor
    weight_B: Tensor
    first_gold_B: Tensor
    second_gold_B: Tensor
    prompts: int

    @classmethod
    def together(cls, parts: Sequence[Self]) -> Self:
        """Several as one."""
        return cls(
            torch.cat([part.first_B for part in parts]),
            torch.cat([part.second_B for part in parts]),
            torch.cat([part.weight_B for part in parts]),
            torch.cat([part.first_gold_B for part in parts]),
            torch.cat([part.second_gold_B for part in parts]),
            sum(part.prompts for part in parts),
        )

    def differences(self) -> Tensor:
        """r_i − r_j, (B,)."""
        return self.first_B - self.second_B

    def summary(self) -> dict[str, float]:
        """``objective`` (J, mean over prompts), ``spread`` (mean |r_i − r_j|), and by gold ``accuracy_gold``.

        The accuracy is over the pairs whose gold differs; a tie of the rewards is not correct.
        """
        objective_B = difference_objective(self.first_B, self.second_B) * self.weight_B
        told = {
            "objective": float(objective_B.sum()) / self.prompts,
            "spread": float(self.differences().abs().mean()),
        }
        gold_B = self.first_gold_B - self.second_gold_B
        differs_B = gold_B.abs() > 0  # NaN is not
        if differs_B.any():
            right_B = (self.differences() * gold_B.sign() > 0)[differs_B]
            told["accuracy_gold"] = float(right_B.float().mean())
        return told


def spread(before: ShiftedRewards, after: ShiftedRewards) -> dict[str, Any]:
    """How |r_i − r_j| is distributed before and after training.

    Args:
        before, after: rewards of the same responses.

    Returns:
        ``edges`` of the bins, the last of which also holds all beyond it; for ``before`` and ``after`` the
        ``pairs`` in each, ``quantiles`` (5, 25, 50, 75 and 95 %) and the :meth:`ShiftedRewards.summary`.
    """
    parts = {"before": before, "after": after}
    apart = {name: one.differences().abs().double() for name, one in parts.items()}
    # A few far pairs would leave the others a single bar.
    widest = float(torch.quantile(torch.cat(list(apart.values())), 0.99)) or 1.0
    return {
        "edges": torch.linspace(0, widest, BINS + 1).tolist(),
        **{
            name: {
                "pairs": torch.histc(apart_B.clamp(max=widest), BINS, 0, widest).int().tolist(),
                "quantiles": torch.quantile(apart_B, torch.tensor(QUANTILES).double()).tolist(),
                **parts[name].summary(),
            }
            for name, apart_B in apart.items()
        },
    }
