"""Drop: pairs are left out by their strength."""

from dataclasses import dataclass, replace

from rlhf_rm.denoise.base import Labels
from rlhf_rm.denoise.select import Select, selected


@dataclass(frozen=True)
class Drop:
    """Train on all but the selected pairs.

    Args:
        where: which pairs.
    """

    where: Select

    def __call__(self, labels: Labels) -> Labels:
        """See :class:`~rlhf_rm.denoise.base.LabelStep`."""
        return replace(labels, keep=labels.keep & ~selected(self.where, labels))
