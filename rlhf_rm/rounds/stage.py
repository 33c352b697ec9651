"""A step of a round: a command of this project, what it reads, and how one knows that it is done.

A stage has a directory of its own. `inputs.json` lies in it from the start, so that an interrupted stage goes
on only if nothing that it reads has changed; `manifest.json` appears when it is done.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rlhf_rm import __version__
from rlhf_rm.errors import UserError
from rlhf_rm.files import fingerprint, read_json, sha256, write_json

DONE, INTERRUPTED, OUTDATED, TO_DO = "done", "interrupted", "outdated", "to do"
INPUTS, MANIFEST = "inputs.json", "manifest.json"
# A model's card tells of its training, and is read by nobody who loads the model.
NOT_CONTENT = ("README.md",)
# What a step leaves is the same whatever these are: how fast it runs, who is told, how often it is saved.
NOT_INPUT = ("loader.workers", "logger", "callbacks.checkpoint")


def round_name(number: int) -> str:
    """The directory of a round, by its number from 1."""
    return f"round_{number - 1:02d}"


@dataclass(frozen=True)
class Stage:
    """One step.

    Args:
        name: of its directory below the root, such as ``round_00/reward``.
        command: of `rlhf-rm`.
        overrides: that it is called with.
        reads: files and directories that it depends on, beside its overrides.
        leaves: what it leaves in its directory for others: files and directories.
        within: the directory in its own where its command works, for one that has a ``manifest.json`` too.
        settings: a name for what configuration files beside the overrides say; empty for the package's own.
    """

    name: str
    command: str
    overrides: tuple[str, ...]
    reads: tuple[Path, ...]
    leaves: tuple[str, ...]
    within: str = ""
    settings: str = ""

    def directory(self, root: Path) -> Path:
        """Where all of it lies."""
        return root / self.name

    def place(self, root: Path) -> Path:
        """Where its command works."""
        return self.directory(root) / self.within

    def output(self, root: Path, which: int = 0) -> Path:
        """One of the things that it leaves."""
        return self.directory(root) / self.leaves[which]

    def inputs(self, root: Path) -> dict[str, Any] | None:
        """What it depends on, as `inputs.json` holds it; None while something that it reads is not there.

        Paths below the root are told from there, so that a run may be moved.
        """
        if not all(path.exists() for path in self.reads):
            return None
        told = [override.replace(str(root), ".") for override in self.overrides]
        reads = {str(path).replace(str(root), "."): content_hash(path) for path in self.reads}
        settings = [self.settings] if self.settings else []
        key = fingerprint(__version__, self.command, what_they_say(told), reads, *settings)
        return {
            "key": key,
            "version": __version__,
            "command": self.command,
            "overrides": told,
            "reads": reads,
        }

    def state(self, root: Path) -> str:
        """``done``, ``interrupted``, ``outdated`` or ``to do``."""
        directory, inputs = self.directory(root), self.inputs(root)
        begun = _read(directory / INPUTS)
        if begun is None:
            return OUTDATED if directory.exists() and any(directory.iterdir()) else TO_DO
        if inputs is None or begun["key"] != inputs["key"]:
            return OUTDATED
        manifest = _read(directory / MANIFEST)
        if manifest is None:
            return INTERRUPTED
        whole = manifest["key"] == inputs["key"] and manifest["leaves"] == self._left(root)
        return DONE if whole else OUTDATED

    def begin(self, root: Path) -> Path | None:
        """Make its directory ready; if it holds what is outdated, that is moved away, and said where to."""
        directory = self.directory(root)
        moved = None
        if self.state(root) == OUTDATED:
            moved = _free(directory)
            directory.rename(moved)
        write_json(directory / INPUTS, self.inputs(root))
        return moved

    def finish(self, root: Path, seconds: float) -> None:
        """Write its manifest.

        Raises:
            UserError: it has not left what others are to read.
        """
        left = self._left(root)
        if missing := [name for name, content in left.items() if content is None]:
            raise UserError(f"{self.name} has ended, and left no {missing[0]} in {self.directory(root)}.")
        inputs = read_json(self.directory(root) / INPUTS)
        write_json(self.directory(root) / MANIFEST, inputs | {"leaves": left, "seconds": seconds})

    def _left(self, root: Path) -> dict[str, str | None]:
        paths = {name: self.directory(root) / name for name in self.leaves}
        return {name: content_hash(path) if path.exists() else None for name, path in paths.items()}


def what_they_say(overrides: Iterable[str]) -> list[str]:
    """Overrides without those that change no result, of two for one key the later, sorted by their groups.

    Within a group they stay in their order: ``a.b=1`` after ``a={b: 2}`` says something else than before it.
    """
    last: dict[str, str] = {}
    for override in overrides:
        key = override.partition("=")[0].lstrip("+")
        last.pop(key, None)  # so that the later one stands where it was given
        if not any(key == name or key.startswith(f"{name}.") for name in NOT_INPUT):
            last[key] = override
    return [last[key] for key in sorted(last, key=lambda key: re.split("[.@]", key)[0])]


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a directory's files."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    kept = [one for one in files if one.name not in NOT_CONTENT and not one.name.endswith(".lock")]
    parts = [
        [str(one.relative_to(path)), _file_hash(one, one.stat().st_mtime_ns, one.stat().st_size)]
        for one in kept
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@lru_cache(maxsize=4096)
def _file_hash(path: Path, changed_ns: int, size: int) -> str:
    """Of the content; a file that has not changed since is not read again."""
    return sha256(path)


def _free(directory: Path) -> Path:
    """A name beside the directory that nobody has yet."""
    number = 1
    while (free := directory.with_name(f"{directory.name}.outdated_{number}")).exists():
        number += 1
    return free


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON file that may not be there, or not be whole if the machine died."""
    try:
        found: dict[str, Any] = read_json(path)
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return found
