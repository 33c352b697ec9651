"""From numbers over worlds to a verdict on a claim."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlhf_rm.report.table import Estimate, estimate

HOLDS, FAILS, UNDECIDED, UNTESTED = "holds", "does not hold", "not decided", "not tested"


@dataclass(frozen=True)
class Part:
    """One number that a claim speaks of, and where the claim wants it to lie.

    Args:
        number: its name, see :mod:`rlhf_rm.reproduction.numbers`.
        label: what it is, for readers.
        above, below: its bounds; None where there is none.
    """

    number: str
    label: str
    above: float | None = None
    below: float | None = None

    def verdict(self, found: Estimate | None) -> str:
        """By the interval of the mean: all of it within the bounds, all beyond one of them, or neither."""
        if found is None:
            return UNTESTED
        if found.low is None or found.high is None:
            return UNDECIDED
        if (self.above is not None and found.high <= self.above) or (
            self.below is not None and found.low >= self.below
        ):
            return FAILS
        within = (self.above is None or found.low > self.above) and (
            self.below is None or found.high < self.below
        )
        return HOLDS if within else UNDECIDED

    def wanted(self) -> str:
        """The bounds in words."""
        if self.above is not None and self.below is not None:
            return f"between {self.above:g} and {self.below:g}"
        return f"above {self.above:g}" if self.above is not None else f"below {self.below:g}"


@dataclass(frozen=True)
class Claim:
    """What the paper says.

    Args:
        name: a short one.
        says: the claim, as a sentence.
        where: section or figure.
        paper: its number there.
        parts: what must be so for it to hold, all of it; empty where nothing here can tell.
        untested: why nothing here can tell.
    """

    name: str
    says: str
    where: str
    paper: str
    parts: tuple[Part, ...] = ()
    untested: str = ""


@dataclass(frozen=True)
class Judged:
    """A claim with what was found.

    Args:
        claim: which.
        values: of each part its number in each world, by the world's name.
        found: of each part the mean with its interval; None where no world has measured it.
    """

    claim: Claim
    values: tuple[Mapping[str, float], ...]
    found: tuple[Estimate | None, ...]

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Of each part."""
        pairs = zip(self.claim.parts, self.found, strict=True)
        return tuple(part.verdict(found) for part, found in pairs)

    @property
    def verdict(self) -> str:
        """A claim fails with any of its parts, and holds with all of them."""
        if FAILS in self.verdicts:
            return FAILS
        if not self.verdicts or UNTESTED in self.verdicts:
            return UNTESTED
        return HOLDS if set(self.verdicts) == {HOLDS} else UNDECIDED


def judge(claims: Sequence[Claim], worlds: Mapping[str, Mapping[str, float]]) -> list[Judged]:
    """Each claim with its numbers.

    Args:
        claims: which.
        worlds: the numbers of each world, by the world's name.
    """
    judged = []
    for claim in claims:
        values = tuple(
            {world: numbers[part.number] for world, numbers in worlds.items() if part.number in numbers}
            for part in claim.parts
        )
        found = tuple(estimate(list(one.values())) if one else None for one in values)
        judged.append(Judged(claim, values, found))
    return judged
