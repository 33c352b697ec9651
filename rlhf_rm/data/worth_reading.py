"""``worth_reading.jsonl``: the pairs at the ends and in the middle of what models say, with their texts.

Shape legend: B preference pairs.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlhf_rm.files import write_text

FILE = "worth_reading.jsonl"
WEAKEST, AMBIGUOUS, STRONGEST = "weakest", "ambiguous", "strongest"
SHOWN = 12  # of each kind


@dataclass(frozen=True, slots=True)
class Text:
    """A pair to be read.

    Args:
        name: of the pair.
        prompt, chosen, rejected: as text.
    """

    name: str
    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class WorthReading:
    """A pair, and what models say of it.

    Args:
        kind: ``weakest`` (most against the label), ``ambiguous`` (difference nearest to 0) or ``strongest``.
        difference: r(chosen) − r(rejected), of several models the mean.
        std: between models; None with one.
        text: of the pair.
    """

    kind: str
    difference: float
    std: float | None
    text: Text


def worth_reading(
    difference_B: NDArray[np.float64],
    std_B: NDArray[np.float64] | None,
    text: Callable[[int], Text],
    shown: int = SHOWN,
) -> list[WorthReading]:
    """The weakest, the most ambiguous and the strongest pairs, in this order.

    Args:
        difference_B: of all pairs, (B,).
        std_B: between models, (B,), where there are several.
        text: of a pair by its number.
        shown: how many of each kind.
    """
    order = np.argsort(difference_B, kind="stable")
    near = np.argsort(np.abs(difference_B), kind="stable")
    rows = {WEAKEST: order[:shown], AMBIGUOUS: near[:shown], STRONGEST: order[::-1][:shown]}
    return [
        WorthReading(
            kind, float(difference_B[row]), None if std_B is None else float(std_B[row]), text(int(row))
        )
        for kind, some in rows.items()
        for row in some
    ]


def write_worth_reading(directory: Path, pairs: Sequence[WorthReading]) -> None:
    """Leave them in a directory, a line each."""
    lines = (json.dumps(asdict(one), ensure_ascii=False, allow_nan=False) + "\n" for one in pairs)
    write_text(directory / FILE, "".join(lines))


def read_worth_reading(directory: Path) -> list[WorthReading]:
    """What :func:`write_worth_reading` left; nothing where no file is."""
    if not (directory / FILE).is_file():
        return []
    # Not splitlines: texts may hold characters that it takes for the end of a line.
    lines = (directory / FILE).read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    return [WorthReading(**row | {"text": Text(**row["text"])}) for row in rows]
