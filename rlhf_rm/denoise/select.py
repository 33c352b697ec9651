"""Which pairs a step of a recipe is for."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlhf_rm.denoise.base import Labels, SettingError, check_number, check_share
from rlhf_rm.overrides import override_of


@dataclass(frozen=True)
class Select:
    """Pairs by the rank of their strength before any flip, or by the strength itself.

    All conditions that are given have to hold; without any every pair is selected. Messages name them as
    settings of a step's ``where``.

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
            SettingError: a share outside [0, 1], none between the two, or a strength that is no number.
        """
        check_share("where.above", self.above)
        check_share("where.below", self.below)
        if self.weaker_than is not None:
            check_number("where.weaker_than", self.weaker_than, "or null", lambda _: True)
        if self.above >= self.below:
            raise SettingError(f"where.above={self.above} must be smaller than where.below={self.below}.")
        chosen: Tensor = (labels.rank >= self.above) & (labels.rank < self.below)
        if self.weaker_than is not None:
            chosen &= labels.mean < self.weaker_than
        return chosen if len(chosen) else torch.zeros(0, dtype=torch.bool)


def selected(where: Any, labels: Labels) -> Tensor:
    """Whether each pair is one that a step is for, (B,).

    Args:
        where: the setting of the step; from a command line it may be anything.

    Raises:
        SettingError: it is no selection; see also :class:`Select`.
    """
    if not isinstance(where, Select):
        raise SettingError(
            f"{override_of('where', where)} must keep its settings above, below and weaker_than: below=1.0 "
            "takes every pair, and null in place of the whole step leaves it out."
        )
    return where(labels)
