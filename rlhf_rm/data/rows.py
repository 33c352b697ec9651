"""Preference pairs from rows, of a file or of the hub: ids, labels and splits, which all have in common."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlhf_rm import __version__
from rlhf_rm.data.reading import BadRowError, Rows, type_name
from rlhf_rm.data.splits import assign_split, check_fractions
from rlhf_rm.data.spool import View
from rlhf_rm.data.types import SPLITS, PreferencePair
from rlhf_rm.errors import UserError
from rlhf_rm.files import fingerprint

ALL = "all"
# The columns of the published strength-annotated HH set (see docs/data.md), spelled with blanks or with
# underscores, and what they are called among a pair's notes.
STRENGTH_COLUMNS = {
    "mean preference difference": "strength_mean",
    "std preference difference": "strength_std",
    "GPT4 label": "gpt4_label",
}
SCORE_COLUMNS = ("chosen score list", "rejected score list")


class RowSource(ABC):
    """Preference pairs of one set of rows, split by prompt, or of one set for each split.

    Rows of their own for validation or test win over the fraction of that name; the pairs of the other
    splits whose prompt also lies in them are then left out and counted, ``test`` before ``validation``
    before ``train``, so that no prompt is on two sides. ``pairs("all")`` is every pair of the main rows.

    Any row may carry ``id`` (text or whole number), ``margin`` (finite number) and ``source`` (text),
    and the columns of the published strengths (:data:`STRENGTH_COLUMNS`), which become notes.
    Duplicate rows are kept (they share their ``pair_id``) and counted. A pair without an ``id`` gets
    ``file:line``; the pairs of one row of K responses share a ``group``. Rows are read at first use,
    once.

    Args:
        validation_fraction: share of the prompts of the main rows for validation.
        test_fraction: share of the prompts of the main rows for test.
        split_seed: another seed, another split.
        on_bad_row: ``error`` or ``skip``.
        limit: take the first so many rows of each set, or ``None`` for all.
        columns: what a field that we know is called in these rows, such as ``{"prompt": "question"}``.
    """

    name: str

    def __init__(
        self,
        *,
        validation_fraction: float,
        test_fraction: float,
        split_seed: int,
        on_bad_row: str,
        limit: int | None,
        columns: Mapping[str, str] | None,
    ) -> None:
        check_fractions(validation_fraction, test_fraction)
        self.validation_fraction = 0.0 if "validation" in self.parts() else validation_fraction
        self.test_fraction = 0.0 if "test" in self.parts() else test_fraction
        self.split_seed = split_seed
        self.on_bad_row = on_bad_row
        self.limit = limit
        self.columns = dict(columns or {})

    @abstractmethod
    def parse(self, row: dict[str, Any]) -> PreferencePair | Sequence[PreferencePair]:
        """One row as a pair, or as several that compare its K responses.

        Raises:
            BadRowError: the row is unusable, and why.
        """

    @abstractmethod
    def parts(self) -> tuple[str, ...]:
        """``all``, and ``validation`` and ``test`` where these have rows of their own."""

    @abstractmethod
    def read(self, part: str) -> Rows[PreferencePair]:
        """Read one of :meth:`parts`, parsing each row with :meth:`pairs_of`."""

    @abstractmethod
    def content(self, part: str) -> str:
        """A hash of the unparsed rows of one of :meth:`parts`."""

    @property
    def splits(self) -> tuple[str, ...]:
        """``train``, ``validation``, ``test``, and ``all``: every pair of the main rows."""
        return (*SPLITS, ALL)

    def pairs(self, split: str) -> Sequence[PreferencePair]:
        """See :class:`~rlhf_rm.data.types.PreferenceSource`."""
        return self.items(split)

    def items(self, split: str) -> Sequence[PreferencePair]:
        """The pairs of one split in the order of the rows."""
        if split == ALL:
            return self._parts[ALL].items
        if split not in SPLITS:
            raise UserError(f"split={split} is unknown: use one of {', '.join(self.splits)}.")
        return self._sides[0][split]

    def fingerprint(self) -> str:
        """A hash over the unparsed rows, and over everything that decides what is made of them."""
        return self._fingerprint

    def report(self) -> dict[str, Any]:
        """Files with their counts, pairs of each split, duplicates, and pairs left out of a split."""
        pairs = self.items(ALL)
        ids = digests(name for pair in pairs for name in (pair.pair_id, pair.prompt_id)).reshape(-1, 2)
        return {
            "source": self.name,
            "files": {"path" if name == ALL else name: rows.report() for name, rows in self._parts.items()},
            "splits": {split: len(self.items(split)) for split in SPLITS},
            "duplicates": len(ids) - len(np.unique(ids[:, 0])),
            "prompts": len(np.unique(ids[:, 1])),
            "left_out_prompt_in_other_split": self._sides[1],
        }

    def pairs_of(self, row: dict[str, Any], place: str) -> list[PreferencePair]:
        """The pairs of a row with its columns renamed, its labels read, and the names that it gives them."""
        renamed = self._rename(row)
        parsed = self.parse(renamed)
        labels = read_labels(renamed)
        pairs = [parsed] if isinstance(parsed, PreferencePair) else list(parsed)
        if len(pairs) != 1 and "margin" in labels:
            raise BadRowError('a "margin" is that of one pair, but this row has several.')
        name = labels.pop("id", "")
        return [
            replace(pair, id=name or pair.id or place, group=place if pair.group else "", **labels)
            for pair in pairs
        ]

    def _rename(self, row: dict[str, Any]) -> dict[str, Any]:
        for ours, theirs in self.columns.items():
            if theirs not in row:
                raise BadRowError(
                    f'columns.{ours} names the column "{theirs}", which is missing; there are: '
                    f"{', '.join(row) or 'none'}."
                )
        taken = {theirs: row[theirs] for theirs in self.columns.values()}
        rest = {name: value for name, value in row.items() if name not in taken}
        return rest | {ours: taken[theirs] for ours, theirs in self.columns.items()}

    @cached_property
    def _parts(self) -> dict[str, Rows[PreferencePair]]:
        return {part: self.read(part) for part in self.parts()}

    @cached_property
    def _sides(self) -> tuple[dict[str, Sequence[PreferencePair]], dict[str, int]]:
        """The pairs of each split, and how many of each were left out for a prompt in another."""
        prompts = {part: digests(pair.prompt_id for pair in rows.items) for part, rows in self._parts.items()}
        side = [
            assign_split(
                prompt.hex(),
                validation_fraction=self.validation_fraction,
                test_fraction=self.test_fraction,
                split_seed=self.split_seed,
            )
            for prompt in map(bytes, prompts[ALL])
        ]
        pairs: dict[str, Sequence[PreferencePair]] = {}
        left_out: dict[str, int] = {}
        seen = prompts[ALL][:0]
        for split in reversed(SPLITS):
            part = split if split in self._parts else ALL
            own = np.flatnonzero(np.array(side) == split) if part == ALL else np.arange(len(prompts[part]))
            kept = own[~np.isin(prompts[part][own], seen)]
            pairs[split] = View(self._parts[part].items, kept)
            left_out[split] = len(own) - len(kept)
            seen = np.concatenate([seen, prompts[part][own]])
        return pairs, left_out

    @cached_property
    def _fingerprint(self) -> str:
        settings = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        kind = f"{type(self).__module__}.{type(self).__qualname__}"
        content = {part: self.content(part) for part in self.parts()}
        return fingerprint(__version__, kind, _own_code(type(self)), settings, content)


def _own_code(kind: type) -> list[str]:
    """The text of the classes of a user's own, whose :meth:`RowSource.parse` has no version to go by.

    None of one that Python has no text of, such as one typed at a prompt.
    """
    own = [one for one in kind.__mro__ if one.__module__.split(".")[0] not in ("rlhf_rm", "abc", "builtins")]
    texts = []
    for one in own:
        try:
            texts.append(inspect.getsource(one))
        except (OSError, TypeError):
            continue
    return texts


def digests(ids: Iterable[str]) -> NDArray[np.void]:
    """SHA-256 in hex as 32 bytes each, (B,)."""
    return np.frombuffer(b"".join(map(bytes.fromhex, ids)), "V32")


def read_labels(row: Mapping[str, Any]) -> dict[str, Any]:
    """The optional fields of a row: ``id``, ``source``, ``margin``, and notes from published strengths.

    Raises:
        BadRowError: one is of the wrong type, or a number is not finite.
    """
    labels: dict[str, Any] = {}
    for field in ("id", "source"):
        value = row.get(field)
        if value is None:
            continue
        if field == "id" and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise BadRowError(f'"{field}" must be text, not {type_name(value)}.')
        labels[field] = value
    if row.get("margin") is not None:
        labels["margin"] = finite(row["margin"], "margin")
    notes = _strengths(row)
    return labels | ({"notes": notes} if notes else {})


def _strengths(row: Mapping[str, Any]) -> dict[str, float]:
    """Published strengths as notes: mean, std, the judge's label, and each member's difference."""
    given = {name.replace("_", " "): value for name, value in row.items() if value is not None}
    notes = {
        note: finite(given[column], column) for column, note in STRENGTH_COLUMNS.items() if column in given
    }
    if notes.get("gpt4_label") == -1:  # how the published set says that there is none
        del notes["gpt4_label"]
    scores = [given[column] for column in SCORE_COLUMNS if column in given]
    if scores:
        if (
            len(scores) != 2
            or not all(isinstance(one, list) for one in scores)
            or len(scores[0]) != len(scores[1])
        ):
            raise BadRowError(f"{' and '.join(SCORE_COLUMNS)} must be two lists of equally many numbers.")
        for member, (chosen, rejected) in enumerate(zip(*scores, strict=True)):
            notes[f"strength_member_{member:02d}"] = finite(chosen, SCORE_COLUMNS[0]) - finite(
                rejected, SCORE_COLUMNS[1]
            )
    return notes


def finite(value: Any, field: str) -> float:
    """A number of a row.

    Raises:
        BadRowError: it is none, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadRowError(f'"{field}" must be a finite number, not {value!r}.')
    return float(value)
