"""Reading JSON lines, plain or gzipped, and Parquet: every complaint names the file and the line."""

import difflib
import gzip
import json
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from rlhf_rm.data.spool import Spool
from rlhf_rm.errors import UserError

ON_BAD_ROW = ("error", "skip")
GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"
MAX_LISTED = 20

T = TypeVar("T")
log = logging.getLogger(__name__)


class BadRowError(ValueError):
    """Raised by a parser: one row is unusable, and why. :func:`read_rows` adds the file and the line."""


@dataclass(slots=True)
class Rows(Generic[T]):
    """What a file held. Blank lines are no rows: ``given = used + skipped``.

    Args:
        name: the file, or what else the rows came from.
        items: what the parser made of the good rows, in the file's order; on the disk, so that a large
            file needs no memory.
        used: how many good rows there were; one may give several items, or none.
        skipped: how many bad rows were left out.
        blank: how many lines held nothing but whitespace.
        problems: the first bad rows as ``file:line: reason``, at most :data:`MAX_LISTED`.
    """

    name: str
    items: Spool[T] = field(default_factory=Spool)
    used: int = 0
    skipped: int = 0
    blank: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def given(self) -> int:
        """Rows that were read, good or bad."""
        return self.used + self.skipped

    def report(self) -> dict[str, Any]:
        """Counts and the listed problems, ready for JSON."""
        return {
            "path": self.name,
            "given": self.given,
            "read": self.used,
            "skipped": self.skipped,
            "blank_lines": self.blank,
            "problems": list(self.problems),
        }


def read_rows(
    path: str | Path,
    parse: Callable[[dict[str, Any], str], Sequence[T]],
    *,
    on_bad_row: str,
    limit: int | None = None,
) -> Rows[T]:
    """Read a file of one object a row and parse each.

    Args:
        path: JSON lines, plain or gzipped, or Parquet; which of them is told by the content, not by
            the name.
        parse: makes items of one row and its place, such as ``pairs.jsonl:3``, or raises
            :class:`BadRowError` with the reason.
        on_bad_row: ``error`` stops at the first bad row, ``skip`` counts and lists them. A file that
            cannot be read to its end is an error either way, since nobody knows what it lacks.
        limit: stop after so many good rows; ``None`` reads all.

    Raises:
        UserError: no such file, a directory, a damaged archive, a bad row (with ``error``), no good row.
    """
    return parse_rows(_rows(Path(path)), str(path), parse, on_bad_row=on_bad_row, limit=limit)


def parse_rows(
    given: Iterable[tuple[int, bytes | dict[str, Any]]],
    name: str,
    parse: Callable[[dict[str, Any], str], Sequence[T]],
    *,
    on_bad_row: str,
    limit: int | None,
) -> Rows[T]:
    """As :func:`read_rows`, of numbered rows (lines of JSON, or objects) from anywhere.

    Raises:
        UserError: a bad row (with ``on_bad_row=error``), or no good row.
    """
    if on_bad_row not in ON_BAD_ROW:
        raise UserError(f"on_bad_row={on_bad_row} is unknown: use one of {', '.join(ON_BAD_ROW)}.")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise UserError(f"limit={limit} must be a whole number of at least 1, or null for every row.")
    rows: Rows[T] = Rows(name)
    short = name.rsplit("/", 1)[-1]
    for number, row in given:
        if isinstance(row, bytes) and not row.strip():
            rows.blank += 1
            continue
        try:
            items = parse(_json_object(row) if isinstance(row, bytes) else row, f"{short}:{number}")
        except BadRowError as reason:
            where = f"{name}:{number}: {reason}"
            if on_bad_row == "error":
                raise UserError(
                    f"{where} Mend the row, or leave bad rows out with on_bad_row=skip."
                ) from None
            rows.skipped += 1
            if len(rows.problems) < MAX_LISTED:
                rows.problems.append(where)
            continue
        rows.used += 1
        for item in items:
            rows.items.append(item)
        if rows.used == limit:
            break
    if not rows.items:
        raise UserError(_nothing_in(rows))
    if rows.skipped:
        more = ["…"] if rows.skipped > len(rows.problems) else []
        listed = "\n  ".join([*rows.problems, *more])
        log.warning("%s: skipped %d of %d rows:\n  %s", rows.name, rows.skipped, rows.given, listed)
    return rows


def _nothing_in(rows: Rows[Any]) -> str:
    if rows.used:
        return f"{rows.name}: none of its {rows.used} rows prefers one response to another."
    if rows.skipped:
        return f"{rows.name}: none of the {rows.skipped} rows is usable; the first: {rows.problems[0]}"
    return f"{rows.name} holds no rows: one JSON object a line is expected."


def _rows(path: Path) -> Iterator[tuple[int, bytes | dict[str, Any]]]:
    """Number and content of each row of a file."""
    return _parquet_rows(path) if _magic(path) == PARQUET_MAGIC else _lines(path)


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet

    number = 0
    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
            if number != file.metadata.num_rows:
                raise ValueError(f"it should have {file.metadata.num_rows:,} rows")
    except (pa.ArrowException, OSError, ValueError) as error:  # names of columns may be no UTF-8
        raise UserError(
            f"{path} is a truncated or damaged Parquet file ({error}; readable up to row {number}): "
            "fetch or write it again."
        ) from None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and content of each line; everything wrong with the file as a whole ends here."""
    with _open(path) as file:
        number = 0
        try:
            for number, line in enumerate(file, start=1):
                yield number, line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(
                f"{path} is a truncated or damaged gzip archive ({error}; readable up to line {number}): "
                "fetch or compress it again."
            ) from None
        except OSError as error:
            raise UserError(f"{path} cannot be read beyond line {number}: {error.strerror}.") from None


def _open(path: Path) -> BinaryIO:
    if _magic(path).startswith(GZIP_MAGIC):
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def check_file(path: Path) -> None:
    """Refuse a path that is no file which can be opened.

    Raises:
        UserError: see above.
    """
    _magic(path)


def _magic(path: Path) -> bytes:
    """The first bytes of a file, which tell what it is."""
    if path.is_dir():
        raise UserError(f"{path} is a directory: name one file (.jsonl, .jsonl.gz or .parquet).")
    try:
        with path.open("rb") as file:
            return file.read(4)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; {_nearby(path)}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}.") from None


def _nearby(path: Path) -> str:
    """What lies where a missing file was looked for."""
    folder = path.parent
    while not folder.is_dir():
        folder = folder.parent
    if folder != path.parent:
        return f"there is no folder {path.parent} (it exists up to {folder.resolve()})"
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)} in the same folder"
    data = [name for name in names if ".json" in name or ".parquet" in name][:5]
    return f"{folder.resolve()} holds {', '.join(data) if data else 'no JSON lines or Parquet'}"


def _json_object(line: bytes) -> dict[str, Any]:
    """The object on one line.

    Raises:
        BadRowError: no UTF-8, no JSON, no object, or characters that no text can hold.
    """
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise BadRowError(
            f"byte {error.start + 1} (0x{byte:02x}) is not UTF-8: save the file as UTF-8."
        ) from None
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        hint = " (a JSON array over several lines? write one object a line)" if text.strip() == "[" else ""
        raise BadRowError(f"not JSON: {error.msg} at column {error.colno}{hint}.") from None
    except (ValueError, RecursionError) as error:
        raise BadRowError(f"not JSON that can be read: {error}.") from None
    if not isinstance(row, dict):
        raise BadRowError(f'{type_name(row)}, where an object like {{"prompt": …}} is expected.')
    if "\\u" in text:
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise BadRowError(
                "half of a surrogate pair (\\ud800 to \\udfff alone), which is no character."
            ) from None
    return row


def require(row: Mapping[str, Any], field: str) -> Any:
    """The value of a field that every row must have; ``null`` is none.

    Raises:
        BadRowError: it is missing.
    """
    if row.get(field) is None:
        raise BadRowError(f'the field "{field}" is missing; there are: {", ".join(row) or "none"}.')
    return row[field]


def type_name(value: Any) -> str:
    """What a parsed JSON value is, in words for an error message."""
    names = {str: "text", list: "a list", dict: "an object", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
