"""Soft labels: some pairs are trusted less."""

from dataclasses import dataclass, replace

import torch

from rlhf_rm.denoise.base import Labels, check_number
from rlhf_rm.denoise.select import Select, selected
from rlhf_rm.functional.preference import smooth


@dataclass(frozen=True)
class SoftLabel:
    """Target 1 − α on the selected pairs: −[(1 − α) log σ(Δ) + α log σ(−Δ)].

    Source: paper, section 2.2 (label smoothing).

    Args:
        alpha: how probable it is that such a label is wrong, in [0, 0.5).
        where: which pairs.
    """

    alpha: float
    where: Select

    def __call__(self, labels: Labels) -> Labels:
        """See :class:`~rlhf_rm.denoise.base.LabelStep`."""
        check_number("alpha", self.alpha, "from 0 to below 0.5", lambda alpha: 0 <= alpha < 0.5)
        soft_B = smooth(labels.target, self.alpha)
        return replace(labels, target=torch.where(selected(self.where, labels), soft_B, labels.target))
