"""Preference pairs from files: what all file formats have in common."""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rlhf_rm.data.reading import BadRowError, Rows, read_rows, type_name
from rlhf_rm.data.splits import assign_split, check_fractions
from rlhf_rm.data.types import SPLITS, PreferencePair
from rlhf_rm.errors import UserError

ALL = "all"


class FileSource(ABC):
    """Preference pairs of one file, split by prompt, or of one file for each split.

    A file for validation or test wins over the fraction of that name; the pairs of the other splits
    whose prompt also lies in it are then left out and counted, ``test`` before ``validation`` before
    ``train``, so that no prompt is on two sides. ``pairs("all")`` is every pair of ``path``.

    Any row may carry ``id`` (text or whole number), ``margin`` (finite number) and ``source`` (text).
    Duplicate rows are kept (they share their ``pair_id``) and counted. A pair without an ``id`` gets
    ``file:line``. Files are read at first use, once.

    Args:
        path: JSON lines, plain or gzipped.
        validation_path: a file of its own for validation, or ``None``.
        test_path: a file of its own for test, or ``None``.
        validation_fraction: share of the prompts of ``path`` for validation.
        test_fraction: share of the prompts of ``path`` for test.
        split_seed: another seed, another split.
        on_bad_row: ``error`` or ``skip``.
        limit: take the first so many pairs of each file, or ``None`` for all.
    """

    name: str

    def __init__(
        self,
        path: str | Path,
        *,
        validation_path: str | Path | None,
        test_path: str | Path | None,
        validation_fraction: float,
        test_fraction: float,
        split_seed: int,
        on_bad_row: str,
        limit: int | None,
    ) -> None:
        check_fractions(validation_fraction, test_fraction)
        self.path = path
        self.own_files = {
            split: given for split, given in (("validation", validation_path), ("test", test_path)) if given
        }
        self.validation_fraction = 0.0 if validation_path else validation_fraction
        self.test_fraction = 0.0 if test_path else test_fraction
        self.split_seed = split_seed
        self.on_bad_row = on_bad_row
        self.limit = limit

    @abstractmethod
    def parse(self, row: dict[str, Any]) -> PreferencePair:
        """One row of the file as a pair; raises :class:`~rlhf_rm.data.reading.BadRowError`."""

    @property
    def splits(self) -> tuple[str, ...]:
        """``train``, ``validation``, ``test``, and ``all``: every pair of ``path``."""
        return (*SPLITS, ALL)

    def pairs(self, split: str) -> Sequence[PreferencePair]:
        """The pairs of one split in the file's order."""
        if split == ALL:
            return self._files[ALL].items
        if split not in SPLITS:
            raise UserError(f"split={split} is unknown: use one of {', '.join(self.splits)}.")
        return self._sides[0][split]

    def fingerprint(self) -> str:
        """SHA-256 over every pair of every file, in order, and over how they are split."""
        return self._fingerprint

    def report(self) -> dict[str, Any]:
        """Files with their counts, pairs of each split, duplicates, and pairs left out of a split."""
        pairs = self.pairs(ALL)
        return {
            "source": self.name,
            "files": {"path" if name == ALL else name: rows.report() for name, rows in self._files.items()},
            "splits": {split: len(self.pairs(split)) for split in SPLITS},
            "duplicates": len(pairs) - len({pair.pair_id for pair in pairs}),
            "prompts": len({pair.prompt_id for pair in pairs}),
            "left_out_prompt_in_other_split": self._sides[1],
        }

    @cached_property
    def _files(self) -> dict[str, Rows[PreferencePair]]:
        return {name: self._read(path) for name, path in ({ALL: self.path} | self.own_files).items()}

    def _pair(self, row: dict[str, Any]) -> PreferencePair:
        return replace(self.parse(row), **_labels(row))

    def _read(self, path: str | Path) -> Rows[PreferencePair]:
        rows = read_rows(path, self._pair, on_bad_row=self.on_bad_row, limit=self.limit)
        rows.items = [
            pair if pair.id else replace(pair, id=f"{rows.path.name}:{line}")
            for pair, line in zip(rows.items, rows.lines, strict=True)
        ]
        return rows

    @cached_property
    def _sides(self) -> tuple[dict[str, list[PreferencePair]], dict[str, int]]:
        """The pairs of each split, and how many of each were left out for a prompt in another."""
        sides: dict[str, list[tuple[str, PreferencePair]]] = {split: [] for split in SPLITS}
        for pair in self._files[ALL].items:
            prompt = pair.prompt_id
            side = assign_split(
                prompt,
                validation_fraction=self.validation_fraction,
                test_fraction=self.test_fraction,
                split_seed=self.split_seed,
            )
            sides[side].append((prompt, pair))
        for split in self.own_files:
            sides[split] = [(pair.prompt_id, pair) for pair in self._files[split].items]
        pairs: dict[str, list[PreferencePair]] = {}
        left_out: dict[str, int] = {}
        seen: set[str] = set()
        for split in reversed(SPLITS):
            pairs[split] = [pair for prompt, pair in sides[split] if prompt not in seen]
            left_out[split] = len(sides[split]) - len(pairs[split])
            seen.update(prompt for prompt, _ in sides[split])
        return pairs, left_out

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        digest.update(f"{self.validation_fraction} {self.test_fraction} {self.split_seed}".encode())
        for name, rows in self._files.items():
            digest.update(f"\n{name}\n".encode())
            for pair in rows.items:
                labels = [pair.pair_id, pair.id, pair.source, pair.margin]
                digest.update(json.dumps(labels).encode())
        return digest.hexdigest()


def _labels(row: Mapping[str, Any]) -> dict[str, Any]:
    """The optional fields of a row: ``id`` (text or whole number), ``source`` (text), ``margin``.

    Raises:
        BadRowError: one is of the wrong type, or the margin is not finite.
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
    margin = row.get("margin")
    if margin is not None:
        if isinstance(margin, bool) or not isinstance(margin, int | float) or not math.isfinite(margin):
            raise BadRowError(f'"margin" must be a finite number, not {margin!r}.')
        labels["margin"] = float(margin)
    return labels
