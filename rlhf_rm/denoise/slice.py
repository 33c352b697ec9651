"""Slice: what the labels of one slice by strength are worth, alone."""

from dataclasses import dataclass, replace

from rlhf_rm.denoise.base import Labels, flipped
from rlhf_rm.denoise.select import Select
from rlhf_rm.errors import UserError


@dataclass(frozen=True)
class Slice:
    """Train on one of equally large slices of the pairs by strength, flipped or not.

    Source: paper, section 2.2 and its figure of validation accuracy by group.

    Args:
        number: which slice, from 0, the weakest, to ``of`` − 1.
        of: how many slices.
        flip: whether its pairs change sides.
    """

    number: int
    of: int
    flip: bool

    def __call__(self, labels: Labels) -> Labels:
        """See :class:`~rlhf_rm.denoise.base.LabelStep`."""
        if not 0 <= self.number < self.of:
            raise UserError(
                f"denoise.recipe.steps.slice: number={self.number} of={self.of}, but slices are numbered "
                "from 0 to one less than there are."
            )
        where = Select(self.number / self.of, (self.number + 1) / self.of)
        selected = where(labels)
        labels = replace(labels, keep=labels.keep & selected)
        return flipped(labels, selected) if self.flip else labels
