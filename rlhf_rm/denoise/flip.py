"""Flip: the preferences that the vote contradicts most change sides."""

from dataclasses import dataclass

from rlhf_rm.denoise.base import Labels, flipped
from rlhf_rm.denoise.select import Select, selected


@dataclass(frozen=True)
class Flip:
    """Swap chosen and rejected of the selected pairs, the weakest as a rule.

    Source: paper, section 2.2 (label flipping).

    Args:
        where: which pairs.
    """

    where: Select

    def __call__(self, labels: Labels) -> Labels:
        """See :class:`~rlhf_rm.denoise.base.LabelStep`."""
        return flipped(labels, selected(self.where, labels))
