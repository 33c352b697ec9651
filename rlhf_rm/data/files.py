"""Preference pairs from files of rows."""

from collections.abc import Mapping
from pathlib import Path

from rlhf_rm.data.reading import Rows, check_file, read_rows
from rlhf_rm.data.rows import ALL, RowSource
from rlhf_rm.data.types import PreferencePair
from rlhf_rm.files import sha256


class FileSource(RowSource):
    """Preference pairs of one file, or of one file for each split; see :class:`RowSource`.

    Args:
        path: JSON lines, plain or gzipped, or Parquet.
        validation_path: a file of its own for validation, or ``None``.
        test_path: a file of its own for test, or ``None``.
        validation_fraction, test_fraction, split_seed, on_bad_row, limit, columns: see
            :class:`RowSource`.
    """

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
        columns: Mapping[str, str] | None,
    ) -> None:
        given = {ALL: path, "validation": validation_path, "test": test_path}
        self._paths = {part: Path(file) for part, file in given.items() if file}
        super().__init__(
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            split_seed=split_seed,
            on_bad_row=on_bad_row,
            limit=limit,
            columns=columns,
        )

    def parts(self) -> tuple[str, ...]:
        """See :class:`RowSource`."""
        return tuple(self._paths)

    def read(self, part: str) -> Rows[PreferencePair]:
        """See :class:`RowSource`."""
        return read_rows(self._paths[part], self.pairs_of, on_bad_row=self.on_bad_row, limit=self.limit)

    def content(self, part: str) -> str:
        """A hash of the file's name and bytes; a pair without an id is named by the file.

        Raises:
            UserError: there is no such file.
        """
        check_file(self._paths[part])
        return f"{self._paths[part].name} {sha256(self._paths[part])}"
