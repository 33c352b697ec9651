"""Any source with some of its training labels turned on purpose."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from rlhf_rm.data.rows import ALL
from rlhf_rm.data.spool import View
from rlhf_rm.data.types import PreferencePair, PreferenceSource
from rlhf_rm.errors import UserError
from rlhf_rm.files import fingerprint

SIGNED = "strength_"  # how the notes begin that are differences of chosen and rejected


class FlippedSource:
    """The pairs of a source, of which exactly ``round(flip_rate * pairs)`` for training change sides.

    So that on real data too some labels are known to be wrong. The note ``flipped`` says which; it is not
    seen by training. Other splits stay as they are. A pair that was turned is another pair,
    as if the data had it so: it has the ``pair_id`` of its new sides.

    Args:
        source: where the pairs come from.
        flip_rate: share of the training pairs, in [0, 1].
        flip_seed: another seed, other pairs.

    Raises:
        UserError: a share outside [0, 1].
    """

    def __init__(self, source: PreferenceSource, flip_rate: float, flip_seed: int) -> None:
        if not 0 <= flip_rate <= 1:
            raise UserError(f"data.flip_rate={flip_rate} is a share of the training pairs: from 0 to 1.")
        self.source, self.flip_rate, self.flip_seed = source, flip_rate, flip_seed
        self.name = f"flipped {source.name}"

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of the source, but for the whole of it, in which nothing would be turned."""
        return tuple(split for split in self.source.splits if split != ALL)

    def pairs(self, split: str) -> Sequence[PreferencePair]:
        """The pairs of one split, in the order of the source."""
        return self._train if split == "train" else self.source.pairs(split)

    def fingerprint(self) -> str:
        """A hash of the source's content and of which pairs are turned."""
        return fingerprint("flipped", self.source.fingerprint(), self.flip_rate, self.flip_seed)

    def report(self) -> dict[str, Any]:
        """The source's own, and how many pairs were turned."""
        pairs = len(self._train)
        return {**self.source.report(), "source": self.name, "flipped": round(self.flip_rate * pairs)}

    @cached_property
    def _train(self) -> Sequence[PreferencePair]:
        pairs = self.source.pairs("train")
        order = np.random.default_rng(self.flip_seed).permutation(len(pairs))
        turned = np.zeros(len(pairs), np.bool_)
        turned[order[: round(self.flip_rate * len(pairs))]] = True
        return View(pairs, change=lambda i, pair: _turned(pair) if turned[i] else _noted(pair, 0.0))


def _turned(pair: PreferencePair) -> PreferencePair:
    """The pair with the other response preferred; by as much, if its label says by how much."""
    return _noted(
        replace(pair, chosen=pair.rejected, rejected=pair.chosen, notes=_turned_notes(pair.notes)), 1.0
    )


def _turned_notes(notes: Mapping[str, float]) -> dict[str, float]:
    turned = {name: -value if name.startswith(SIGNED) else value for name, value in notes.items()}
    if "strength_std" in notes:
        turned["strength_std"] = notes["strength_std"]
    if "gpt4_label" in notes:
        turned["gpt4_label"] = 1 - notes["gpt4_label"]
    if "gold_chosen" in notes and "gold_rejected" in notes:
        turned["gold_chosen"], turned["gold_rejected"] = notes["gold_rejected"], notes["gold_chosen"]
    return turned


def _noted(pair: PreferencePair, flipped: float) -> PreferencePair:
    return replace(pair, notes={**pair.notes, "flipped": flipped})
