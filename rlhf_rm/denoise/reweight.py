"""Reweight: a pair counts as much as the vote believes in its label."""

from dataclasses import dataclass, replace

import torch

from rlhf_rm.denoise.base import Labels, check_number, check_share


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
        check_number("temperature", self.temperature, "above 0", lambda temperature: temperature > 0)
        check_share("floor", self.floor)
        weight_B = torch.sigmoid(labels.mean / self.temperature).clamp(min=self.floor)
        return replace(labels, weight=labels.weight * weight_B)
