"""Files that are whole or not there: written beside their place, then moved into it; and their order."""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

log = logging.getLogger(__name__)
WHOLE = ".whole.json"  # in a directory of a cache: the SHA-256 of each of its files


def fingerprint(*parts: Any) -> str:
    """A short name for what was made from these parts."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def in_order(path: str | Path) -> list[str | int]:
    """What to sort paths by: as text, but for the numbers in them, so that 2 comes before 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]


def sha256(path: Path) -> str:
    """Of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a directory, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that whoever reads it sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file as :func:`write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as :func:`write_text` does; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What :func:`write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A directory to fill that takes its place at the end of the block, replacing what was there.

    If the block fails, nothing has changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        old = path.with_name(f".{path.name}.old.{os.getpid()}")
        if path.exists():
            path.rename(old)
        part.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def cached_directory(path: Path, make: Callable[[Path], Any]) -> Path:
    """A directory of a cache: made at first use, and made again if a file of it is damaged or missing.

    Processes may come together: one makes it, the others wait.

    Args:
        path: under a name made from everything that the content depends on.
        make: fills the directory that it is given.
    """
    if is_whole(path):  # before the lock, for which a cache that others share may have no permission
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if is_whole(path):
            return path
        if path.is_dir():
            log.warning("%s is damaged, and is made again.", path)
        with whole_directory(path) as made:
            make(made)
            files = sorted(file for file in made.rglob("*") if file.is_file())
            write_json(made / WHOLE, {str(file.relative_to(made)): sha256(file) for file in files})
    return path


def lies_within(directory: Path, name: str) -> bool:
    """Whether a name that was read from a file leads to somewhere below a directory."""
    return (directory / name).resolve().is_relative_to(directory.resolve())


def is_whole(directory: Path) -> bool:
    """Whether a directory of a cache holds what was made, by the hashes that lie in it."""
    try:
        made = read_json(directory / WHOLE)
        return all(
            lies_within(directory, name) and sha256(directory / name) == known for name, known in made.items()
        )
    except (OSError, ValueError):
        return False
