"""Reweight: a pair counts as much as the vote believes in its label."""

from dataclasses import dataclass, replace

import torch

from rlhf_rm.denoise.base import Labels
from rlhf_rm.errors import UserError


@dataclass(frozen=True)
class Reweight:
    """Weight each pair by σ(μ / temperature), and no less than ``floor``.

    Beyond the paper: a soft form of dropping.

    Args:
        temperature: in reward units, above 0; the smaller, the closer to dropping all with μ < 0.
        floor: least weight, in [0, 1].
    """

    temperature: float
    floor: float

    def __call__(self, labels: Labels) -> Labels:
        """See :class:`~rlhf_rm.denoise.base.LabelStep`."""
        if self.temperature <= 0 or not 0 <= self.floor <= 1:
            raise UserError(
                f"denoise.recipe.steps.reweight: temperature={self.temperature} must be above 0 and "
                f"floor={self.floor} from 0 to 1."
            )
        weight_B = torch.sigmoid(labels.mean / self.temperature).clamp(min=self.floor)
        return replace(labels, weight=labels.weight * weight_B)
