"""The table of preference strengths: ``strengths.parquet``, made by a vote and joined by ``pair_id``.

Shape legend: M members, B preference pairs. Strengths are in reward units.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from rlhf_rm.errors import UserError, reading
from rlhf_rm.files import read_json, sha256, write_bytes
from rlhf_rm.functional.voting import preference_strength

log = logging.getLogger(__name__)
FILE = "strengths.parquet"
MANIFEST = "manifest.json"
NOTES = "strength_"


@dataclass(frozen=True, slots=True)
class Strengths:
    """How strong each preference is, by the vote of M members.

    Args:
        pair_id: names of the pairs, B of them, no two the same.
        mean, std: of the members' differences, (B,); std is the population's.
        members_MB: each member's r(chosen) − r(rejected), (M, B); no member where the source gives
            none.
    """

    pair_id: Sequence[str]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    members_MB: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.pair_id)

    def joined(self, pair_ids: Sequence[str], *, what: str = "training") -> "Strengths":
        """The rows of these pairs, in their order.

        Args:
            pair_ids: of the pairs; the same may come several times.
            what: what the pairs are, for the message.

        Raises:
            UserError: some have no strength.
        """
        at = {name: i for i, name in enumerate(self.pair_id)}
        missing = [name for name in dict.fromkeys(pair_ids) if name not in at]
        if missing:
            raise UserError(
                f"{len(missing):,} of {len(set(pair_ids)):,} {what} pairs have no strength, the first of "
                f"them {', '.join(missing[:3])}: vote on this data, with the same splits."
            )
        rows = np.array([at[name] for name in pair_ids], np.int64)
        return Strengths(list(pair_ids), self.mean[rows], self.std[rows], self.members_MB[:, rows])


def first_rows(pair_id: Sequence[str]) -> NDArray[np.int64]:
    """Where each pair comes first, in their order; a pair may come again."""
    return np.sort(np.unique(np.asarray(pair_id, dtype=object).astype(str), return_index=True)[1])


def from_members(pair_id: Sequence[str], members_MB: NDArray[Any]) -> Strengths:
    """The strengths of these differences, (M, B); a pair that comes again is taken once."""
    first = first_rows(pair_id)
    members = np.asarray(members_MB, np.float64)[:, first]
    mean, std = preference_strength(torch.from_numpy(members))
    return Strengths([pair_id[i] for i in first], mean.numpy(), std.numpy(), members)


def write_strengths(directory: Path, strengths: Strengths) -> Path:
    """Leave ``strengths.parquet`` in a directory; the file is whole or not there."""
    columns = {"pair_id": pa.array(strengths.pair_id), "mean": strengths.mean, "std": strengths.std}
    columns |= {f"member_{m:02d}": row for m, row in enumerate(strengths.members_MB)}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, write_page_checksum=True)
    write_bytes(directory / FILE, sink.getvalue().to_pybytes())
    return directory / FILE


def read_strengths(path: Path) -> Strengths:
    """What :func:`write_strengths` left, or anybody wrote in its form.

    Args:
        path: the file, or the directory of a vote.

    Raises:
        UserError: there is none, it is damaged, has a value that is no finite number, names a pair
            twice, or is another, or of other members, than the manifest beside it says.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{path} is no strengths file: give a {FILE}, or the directory of a `rlhf-rm vote`.")
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            table, rows = opened.read(), opened.metadata.num_rows
        table.validate(full=True)
        if table.num_rows != rows:
            raise ValueError(f"it should have {rows:,} rows, and {table.num_rows:,} can be read")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{file} is damaged and cannot be read ({error}): vote again.") from error
    if doubled := {name for name in table.column_names if table.column_names.count(name) > 1}:
        raise UserError(f"{file} has the column {min(doubled)} twice: keep one of them.")
    names = [name for name in table.column_names if name.startswith("member_")]
    absent = [name for name in ("pair_id", "mean", "std") if name not in table.column_names]
    if absent:
        raise UserError(
            f"{file} lacks the column {absent[0]}: it needs pair_id, mean and std, and has "
            f"{', '.join(table.column_names)}."
        )
    _check_manifest(file, len(names))
    columns = {name: _numbers(file, table, name) for name in ("mean", "std", *names)}
    members = np.stack([columns[name] for name in names]) if names else np.empty((0, table.num_rows))
    pair_id = table["pair_id"].to_pylist()
    if strange := [name for name in pair_id if not isinstance(name, str)]:
        raise UserError(
            f"{file}: {len(strange):,} values of the column pair_id are no text, the first of them "
            f"{strange[0]!r}: see docs/data.md for what a pair_id is."
        )
    if len(set(pair_id)) < len(pair_id):
        raise UserError(f"{file} names {len(pair_id) - len(set(pair_id))} pairs twice: keep one row of each.")
    return Strengths(pair_id, columns["mean"], columns["std"], members)


def published(columns: Mapping[str, NDArray[Any]], pair_id: Sequence[str]) -> Strengths:
    """The strengths that came with the data, in the columns of the published annotated HH set.

    Args:
        columns: the notes of the pairs by name, (B,); NaN where a pair has none.
        pair_id: of the pairs.

    Raises:
        UserError: the data has none, or not for every pair.
    """
    given = {name.removeprefix(NOTES): values for name, values in columns.items() if name.startswith(NOTES)}
    names = sorted(name for name in given if name.startswith("member_"))
    if "mean" not in given and not names:
        raise UserError(
            "denoise.strengths=published, but this data has no strengths of its own (the column 'mean "
            "preference difference'): vote with `rlhf-rm vote`, and give its directory as denoise.strengths."
        )
    lacking = [name for name in names if not np.isfinite(given[name]).all()]
    if "mean" in given and lacking:
        log.warning(
            "The data has no value of %s for some pairs: of its strengths the mean and %d members are used.",
            ", ".join(lacking),
            len(names) - len(lacking),
        )
        names = [name for name in names if name not in lacking]
    members = np.stack([given[name] for name in names]) if names else np.empty((0, len(pair_id)))
    mean = given["mean"] if "mean" in given else members.mean(0)
    std = given["std"] if "std" in given else (members.std(0) if names else np.zeros(len(pair_id)))
    bad = np.flatnonzero(~np.isfinite(mean + std))
    if len(bad):
        raise UserError(
            f"{len(bad):,} of {len(pair_id):,} pairs have no strength in the data, the first of them "
            f"{', '.join(pair_id[i] for i in bad[:3])}."
        )
    return Strengths(list(pair_id), mean.astype(np.float64), std.astype(np.float64), members)


def _numbers(file: Path, table: pa.Table, name: str) -> NDArray[np.float64]:
    try:
        values = np.asarray(table[name].to_numpy(), np.float64)
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: the column {name} is not of numbers.") from error
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise UserError(
            f"{file}: the column {name} has {len(bad):,} values that are no finite numbers, the first in row "
            f"{bad[0] + 1}: vote again, or leave those pairs out."
        )
    return values


def _check_manifest(file: Path, members: int) -> None:
    manifest = file.with_name(MANIFEST)
    if not manifest.is_file():
        return
    with reading(manifest, "vote again, or move it away"):
        about = read_json(manifest)
        known, named = about["strengths"], len(about["members"])
    if known != sha256(file):
        raise UserError(
            f"{file} is not the file that {manifest.name} beside it speaks of: its members may be others. "
            "Vote again, or move the file away from the manifest if you mean to use it as it is."
        )
    if named != members:
        raise UserError(
            f"{manifest} names {named} members, and {file.name} has columns of {members}: "
            "vote again, or move the manifest away if you mean to use the strengths as they are."
        )
