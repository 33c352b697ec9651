"""What a report is given: which directory is what, told by the files in it."""

import glob
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_rm.errors import UserError, reading
from rlhf_rm.files import in_order, read_json

RUN, VOTE, ROUNDS, EVALUATION, JUDGEMENT = "run", "vote", "rounds", "evaluation", "judgement"
# Each kind, and the file by which it is known; the last that its command writes.
KINDS = {
    ROUNDS: "rounds.json",
    VOTE: "strengths.parquet",
    RUN: "metrics.json",
    EVALUATION: "evaluation.json",
    JUDGEMENT: "judgement.json",
}
# Of a run and of rounds that have begun.
BEGUN = ("config.yaml", "round_00")
RECOGNISED = (
    "a run (metrics.json), a vote (strengths.parquet), rounds (rounds.json), an evaluation "
    "(evaluation.json), a judgement (judgement.json), or a directory of these"
)


@dataclass(frozen=True)
class Inputs:
    """What was found.

    Args:
        found: kind and directory of everything to report on, in the order in which it was named.
        unfinished: runs and rounds that have begun, and not ended.
        unknown: directories that hold nothing known, beside others that do.
    """

    found: Sequence[tuple[str, Path]]
    unfinished: Sequence[Path]
    unknown: Sequence[Path]

    def of(self, kind: str) -> list[Path]:
        """The directories of one kind."""
        return [path for one, path in self.found if one == kind]


def find_inputs(patterns: Sequence[str]) -> Inputs:
    """Everything that these paths and globs name, or that lies in the directories that they name.

    Raises:
        UserError: one of them names nothing known, or nothing of it all is finished.
    """
    found: dict[Path, str] = {}
    unfinished: dict[Path, None] = {}
    unknown: dict[Path, None] = {}
    for pattern in patterns:
        paths = [Path(path) for path in sorted(glob.glob(pattern), key=in_order)]  # noqa: PTH207 — Path.glob takes no absolute one
        directories = [path for path in paths if path.is_dir()]
        if not directories:
            raise UserError(f"inputs={pattern} matches no directory: give {RECOGNISED}, or a glob of them.")
        strange = []
        for directory in directories:
            inside = (
                [directory]
                if _known(directory)
                else [one for one in sorted(directory.iterdir(), key=in_order) if _shown(one) and _known(one)]
            )
            found |= {path: kind for path in inside if (kind := kind_of(path)) is not None}
            unfinished |= dict.fromkeys(path for path in inside if kind_of(path) is None)
            strange += [] if inside else [directory]
        if len(strange) == len(directories):
            raise UserError(
                f"inputs={pattern} names nothing that a report reads ({strange[0]} has no such file): give "
                f"{RECOGNISED}."
            )
        unknown |= dict.fromkeys(strange)
    if not found:
        raise UserError(
            f"none of the {len(unfinished)} runs and rounds that inputs names is finished: go on with them "
            "first (resume=auto for a run), or name others."
        )
    return Inputs([(kind, path) for path, kind in found.items()], list(unfinished), list(unknown))


def kind_of(directory: Path) -> str | None:
    """What lies in a directory; None if nothing that is finished and known does."""
    return next((kind for kind, file in KINDS.items() if (directory / file).is_file()), None)


def short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for each, of as many of its last parts as tell it from the others."""
    longest = max((len(path.parts) for path in paths), default=0)
    for count in range(1, longest + 1):
        names = {path: "/".join(path.parts[-count:]) for path in paths}
        if len({slug(name) for name in names.values()}) == len(paths):
            return names
    return {path: f"{path.name} {number}" for number, path in enumerate(paths, 1)}


def slug(name: str) -> str:
    """A name as part of a file's name or of an anchor."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower()


def slugs(names: Sequence[str]) -> list[str]:
    """The slug of each name, with a number where one before it has the same."""
    found: list[str] = []
    for name in names:
        own, number = slug(name), 1
        while own in found:
            number += 1
            own = f"{slug(name)}_{number}"
        found.append(own)
    return found


def read(file: Path) -> Any:
    """A JSON file.

    Raises:
        UserError: it is damaged.
    """
    try:
        return read_json(file)
    except ValueError as error:  # no JSON, or no UTF-8
        raise UserError(
            f"{file} is damaged and cannot be read ({error}): make it anew, or leave {file.parent} out."
        ) from error


def expecting(file: Path) -> AbstractContextManager[None]:
    """Take what is missing or of another type in the block for damage of this file; see :func:`reading`."""
    return reading(file, f"make it anew, or leave {file.parent} out")


def _shown(path: Path) -> bool:
    """Whether it is not hidden, as what Hydra keeps of a command is, in which lies a config.yaml too."""
    return not path.name.startswith(".")


def _known(path: Path) -> bool:
    return path.is_dir() and (kind_of(path) is not None or any((path / name).exists() for name in BEGUN))
