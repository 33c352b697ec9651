"""Reading JSON lines, plain or gzipped: every complaint names the file and the line."""

import difflib
import gzip
import json
import logging
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

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
    """What a file held. Blank lines are no rows: ``given = len(items) + skipped``.

    Args:
        path: the file.
        items: what the parser made of each good row, in the file's order.
        lines: the line number of each item, from 1.
        skipped: how many bad rows were left out.
        blank: how many lines held nothing but whitespace.
        problems: the first bad rows as ``file:line: reason``, at most :data:`MAX_LISTED`.
    """

    path: Path
    items: list[T] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    skipped: int = 0
    blank: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def given(self) -> int:
        """Rows that were read, good or bad."""
        return len(self.items) + self.skipped

    def report(self) -> dict[str, Any]:
        """Counts and the listed problems, ready for JSON."""
        return {
            "path": str(self.path),
            "given": self.given,
            "read": len(self.items),
            "skipped": self.skipped,
            "blank_lines": self.blank,
            "problems": list(self.problems),
        }


def read_rows(
    path: str | Path, parse: Callable[[dict[str, Any]], T], *, on_bad_row: str, limit: int | None = None
) -> Rows[T]:
    """Read a file of one JSON object a line and parse each.

    Args:
        path: JSON lines, plain or gzipped; which of the two is told by the content, not by the name.
        parse: makes an item of one row, or raises :class:`BadRowError` with the reason.
        on_bad_row: ``error`` stops at the first bad row, ``skip`` counts and lists them. A file that
            cannot be read to its end is an error either way, since nobody knows what it lacks.
        limit: stop after so many good rows; ``None`` reads all.

    Raises:
        UserError: no such file, a directory, a damaged archive, a bad row (with ``error``), no good row.
    """
    if on_bad_row not in ON_BAD_ROW:
        raise UserError(f"on_bad_row={on_bad_row} is unknown: use one of {', '.join(ON_BAD_ROW)}.")
    if limit is not None and limit < 1:
        raise UserError(f"limit={limit} must be at least 1, or null for every row.")
    rows: Rows[T] = Rows(Path(path))
    for number, line in _lines(rows.path):
        if not line.strip():
            rows.blank += 1
            continue
        try:
            item = parse(_json_object(line))
        except BadRowError as reason:
            where = f"{rows.path}:{number}: {reason}"
            if on_bad_row == "error":
                raise UserError(
                    f"{where} Mend the row, or leave bad rows out with on_bad_row=skip."
                ) from None
            rows.skipped += 1
            if len(rows.problems) < MAX_LISTED:
                rows.problems.append(where)
            continue
        rows.items.append(item)
        rows.lines.append(number)
        if len(rows.items) == limit:
            break
    if not rows.items:
        raise UserError(_nothing_in(rows))
    if rows.skipped:
        more = ["…"] if rows.skipped > len(rows.problems) else []
        listed = "\n  ".join([*rows.problems, *more])
        log.warning("%s: skipped %d of %d rows:\n  %s", rows.path, rows.skipped, rows.given, listed)
    return rows


def _nothing_in(rows: Rows[Any]) -> str:
    if rows.skipped:
        return f"{rows.path}: none of the {rows.skipped} rows is usable; the first: {rows.problems[0]}"
    return f"{rows.path} holds no rows: one JSON object a line is expected."


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
    if path.is_dir():
        raise UserError(f"{path} is a directory: name one file of JSON lines (.jsonl or .jsonl.gz).")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; {_nearby(path)}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}.") from None
    if magic == PARQUET_MAGIC:
        raise UserError(f"{path} is a Parquet file: convert it to JSON lines, one object a line.")
    if magic.startswith(GZIP_MAGIC):
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


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
    data = [name for name in names if ".json" in name][:5]
    return f"{folder.resolve()} holds {', '.join(data) if data else 'no JSON lines'}"


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
