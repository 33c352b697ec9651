"""How well a reward model tells apart what a policy says now.

Shape legend: B pairs of responses to the same prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from rlhf_rm.functional.meta import difference_objective


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
