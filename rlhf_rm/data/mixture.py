"""Several sources as one, each with a weight."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlhf_rm.data.rows import ALL
from rlhf_rm.data.spool import Chain, View
from rlhf_rm.data.types import SPLITS, PreferencePair, PreferenceSource
from rlhf_rm.errors import UserError
from rlhf_rm.files import fingerprint


class MixtureSource:
    """The pairs of several sources, of each as many for training as its weight says.

    A weight of 1 takes each training pair once, 0.5 half of the prompts (always the same), 2 each
    pair twice. Validation, test and ``all`` take every pair once; ``NAME/SPLIT`` is a split of one source
    alone. A training pair whose prompt lies in the validation or test split of any source is left out
    and counted, and so is one of the validation whose prompt lies in a test split. A pair that names no
    ``source`` of its own gets its source's name here, so that ``evaluate`` can tell them apart.

    Args:
        sources: by the names that they are to have.
        weights: by the same names; 1 where none is given.

    Raises:
        UserError: no sources, a weight for none of them, or a weight that is not positive.
    """

    name = "mixture"

    def __init__(self, sources: Mapping[str, PreferenceSource], weights: Mapping[str, float]) -> None:
        if not sources:
            raise UserError(
                "a mixture needs sources, such as +data@data.sources.hh=hh data.sources.hh.path=FILE."
            )
        unknown = [name for name in weights if name not in sources]
        if unknown:
            raise UserError(
                f"data.weights names {', '.join(unknown)}, but the sources are {', '.join(sources)}."
            )
        bad = {name: weight for name, weight in weights.items() if not 0 < weight < float("inf")}
        if bad:
            raise UserError(
                f"data.weights is {bad}: a weight is a number above 0, how often each pair is taken."
            )
        self.sources = dict(sources)
        self.weights = {name: float(weights.get(name, 1.0)) for name in sources}

    @property
    def splits(self) -> tuple[str, ...]:
        """``train``, ``validation`` and ``test`` of all, ``all``, and each source's own as ``NAME/SPLIT``."""
        own = (f"{name}/{split}" for name, source in self.sources.items() for split in source.splits)
        return (*SPLITS, ALL, *own)

    def pairs(self, split: str) -> Sequence[PreferencePair]:
        """The pairs of one split, source by source."""
        name, slash, own = split.partition("/")
        if slash and name in self.sources and own in self.sources[name].splits:
            return self._labelled(name, own)
        if split == "train":
            return self._train[0]
        if split == "validation":
            return self._validation[0]
        if split == ALL:  # each pair once, whatever it weighs and whichever split leaves it out
            return Chain(self._labelled(name, part) for part in SPLITS for name in self.sources)
        if split not in SPLITS:
            raise UserError(f"split={split} is unknown: use one of {', '.join(self.splits)}.")
        return Chain(self._labelled(name, split) for name in self.sources)

    def fingerprint(self) -> str:
        """A hash of the sources' fingerprints and weights."""
        parts = {name: source.fingerprint() for name, source in self.sources.items()}
        return fingerprint(parts, self.weights)

    def report(self) -> dict[str, Any]:
        """Each source's own report, its weight, and how many training pairs it gives."""
        return {
            "source": self.name,
            "splits": {split: len(self.pairs(split)) for split in SPLITS},
            "train_pairs": self._train[1],
            "left_out_prompt_in_other_split": {
                "train": self._train[2],
                "validation": self._validation[1],
                "test": 0,
            },
            "weights": self.weights,
            "sources": {name: source.report() for name, source in self.sources.items()},
        }

    def _labelled(self, name: str, split: str) -> Sequence[PreferencePair]:
        def label(_: int, pair: PreferencePair) -> PreferencePair:
            return replace(
                pair, source=pair.source or name, group=f"{name}/{pair.group}" if pair.group else ""
            )

        return View(self.sources[name].pairs(split), change=label)

    @cached_property
    def _validation(self) -> tuple[Sequence[PreferencePair], int]:
        """The pairs of the validation, and how many were left out for a prompt in the test of some source."""
        tested = {pair.prompt_id for pair in self.pairs("test")}
        parts: list[Sequence[PreferencePair]] = []
        left_out = 0
        for name in self.sources:
            given = self._labelled(name, "validation")
            kept = np.flatnonzero(np.array([pair.prompt_id not in tested for pair in given], np.bool_))
            parts.append(View(given, kept))
            left_out += len(given) - len(kept)
        return Chain(parts), left_out

    @cached_property
    def _train(self) -> tuple[Sequence[PreferencePair], dict[str, int], int]:
        """The training pairs, how many each source gives, and how many were left out."""
        held_out = {
            pair.prompt_id
            for split in SPLITS[1:]
            for source in self.sources.values()
            for pair in source.pairs(split)
        }
        copies: list[Sequence[PreferencePair]] = []
        counts: dict[str, int] = {}
        left_out = 0
        for name, weight in self.weights.items():
            given = self._labelled(name, "train")
            # Where each prompt lies in [0, 1); nowhere, if it is held out.
            place = np.array(
                [
                    np.nan if prompt in held_out else _position(prompt)
                    for prompt in (pair.prompt_id for pair in given)
                ]
            )
            left_out += int(np.isnan(place).sum())
            whole, rest = divmod(weight, 1)
            taken = [np.flatnonzero(place < (1 if n < whole else rest)) for n in range(int(whole) + 1)]
            copies += [_copy(given, at, n) for n, at in enumerate(taken)]
            counts[name] = sum(map(len, taken))
        return Chain(copies), counts, left_out


def _copy(pairs: Sequence[PreferencePair], at: NDArray[np.int64], number: int) -> Sequence[PreferencePair]:
    """Some of the pairs, in groups of this copy's own."""

    def regroup(_: int, pair: PreferencePair) -> PreferencePair:
        return replace(pair, group=pair.group and f"{pair.group}#{number}")

    return View(pairs, at, regroup)


def _position(prompt_id: str) -> float:
    """Where a prompt lies in [0, 1), by its hash and independent of its split."""
    return int.from_bytes(hashlib.sha256(f"mixture:{prompt_id}".encode()).digest()[:8], "big") / 2**64
