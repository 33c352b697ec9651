"""Slice: what the labels of one slice by strength are worth, alone."""

from dataclasses import dataclass, replace

from rlhf_rm.denoise.base import Labels, SettingError, check_number, flipped
from rlhf_rm.denoise.select import Select
from rlhf_rm.overrides import override_of


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
        check_number("of", self.of, "of at least 1", lambda of: of >= 1, whole=True)
        numbered = f"from 0 to {self.of - 1}, one less than of"
        check_number("number", self.number, numbered, lambda number: 0 <= number < self.of, whole=True)
        if not isinstance(self.flip, bool):
            raise SettingError(f"{override_of('flip', self.flip)} must be true or false.")
        where = Select(self.number / self.of, (self.number + 1) / self.of)
        selected = where(labels)
        labels = replace(labels, keep=labels.keep & selected)
        return flipped(labels, selected) if self.flip else labels
