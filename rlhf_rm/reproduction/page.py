"""The page on what of the paper holds here, in Markdown, and the same as JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlhf_rm.overrides import more, quoted
from rlhf_rm.report.table import Estimate, reach
from rlhf_rm.reproduction.verdict import FAILS, HOLDS, UNDECIDED, UNTESTED, Judged

LEAD = (
    '"Secrets of RLHF in Large Language Models Part II: Reward Modeling" (arXiv 2401.06080) and MetaRM '
    "(arXiv 2405.00438) in {world}, where the true reward, gold, is "
    "known: a model of 1 M parameters in place of Llama 2; labels by Bradley–Terry on gold, a fifth of "
    "them turned where noise is the subject, in place of people's; and gold in place of GPT-4. That a "
    "claim holds says that the code does what the paper describes and that the claim reaches this far; "
    "that it does not, says that it does not reach here. Neither speaks about the paper's own "
    "experiments."
)
HOW = (
    "Numbers are means over worlds with 95 % intervals by Student's t; each world has a seed of its own "
    "for its facts, its labels and what is trained on them. A claim **holds** where the whole interval lies "
    "within the bounds in the last column, **does not hold** where all of it lies beyond, and is **not "
    "decided** in between; one with several numbers holds only with all of them, and fails with any. "
    "Nothing allows for their number: of twenty claims on the edge one comes out wrong by chance. The "
    "bounds are ours, and were set before these numbers were made, with measurements in other worlds at "
    "hand; what two of them bound was made stricter when a first run had been seen (MetaRM against SFT, the "
    'flipped tenth). What is called "best" or "smallest", and what was lost from the best, is chosen by what '
    'it came to, and leans to that side. "Denoised" is the recipe among the settings below, and MetaRM '
    "climbs as they say: by default neither is the paper's."
)
REACH = (
    "With {worlds} worlds an interval reaches {reach:.1f} times the standard deviation between worlds to "
    "each side, so that what is smaller stays not decided: more worlds decide more."
)


@dataclass(frozen=True)
class Making:
    """How the numbers were made.

    Args:
        command: as it was typed.
        version: of this project.
        size: which.
        worlds: their seeds.
        seconds: of each kind of step, over all worlds.
        settings: what the size comes to, by name.
        date: of the page.
        docs: the way from the page to this project's documentation; None where it is not at hand.
    """

    command: str
    version: str
    size: str
    worlds: Sequence[int]
    seconds: Mapping[str, float]
    settings: Mapping[str, Any]
    date: str
    docs: str | None = None

    def link(self, text: str, name: str) -> str:
        """Text that leads to a page of the documentation, where there is a way."""
        return text if self.docs is None else f"[{text}]({self.docs}/{name})"


def page(judged: Sequence[Judged], making: Making) -> str:
    """Markdown: the verdicts, then how they were made."""
    counts = Counter(one.verdict for one in judged)
    total = ", ".join(f"{counts[name]} {name}" for name in (HOLDS, FAILS, UNDECIDED, UNTESTED))
    tested = [one for one in judged if one.verdict != UNTESTED]
    left = [one for one in judged if one.verdict == UNTESTED]
    lead = LEAD.format(world=making.link("the synthetic world", "synthetic_world.md"))
    parts = ["# What of the paper holds here", lead, f"**{len(judged)} claims: {total}.**", HOW]
    worlds = len(making.worlds)
    if worlds > 1:
        parts.append(REACH.format(worlds=worlds, reach=reach(worlds)))
    rows = [_row(one, worlds) for one in tested]
    parts.append(_table(("claim", "section", "paper", "here", "verdict", "holds if"), rows))
    if left:
        whys = [(one.claim.says, one.claim.where, one.claim.paper, _why(one)) for one in left]
        parts += ["## Not tested", _table(("claim", "section", "paper", "why"), whys)]
    parts += ["## How it was made", *_making(making)]
    return "\n\n".join(parts) + "\n"


def as_json(judged: Sequence[Judged], making: Making) -> dict[str, Any]:
    """Every number of the page, and those of each world."""
    claims = []
    for one in judged:
        zipped = zip(one.claim.parts, one.values, one.found, one.verdicts, strict=True)
        parts = [
            asdict(part)
            | {"worlds": dict(values), "found": asdict(found) if found else None, "verdict": verdict}
            for part, values, found, verdict in zipped
        ]
        claims.append(asdict(one.claim) | {"parts": parts, "verdict": one.verdict})
    return {"making": asdict(making), "claims": claims}


def shown(found: Estimate | None) -> str:
    """A mean with its interval."""
    if found is None:
        return "not measured"
    mean = _number(found.mean)
    if found.low is None or found.high is None:
        return f"{mean} (one world, no interval)"
    return f"{mean} ({_number(found.low)} to {_number(found.high)})"


def _number(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def _fewer(found: Estimate | None, worlds: int) -> str:
    return f", {found.seeds} of {worlds} worlds" if found is not None and found.seeds < worlds else ""


def _row(one: Judged, worlds: int) -> tuple[str, ...]:
    pairs = zip(one.claim.parts, one.found, strict=True)
    here = "; ".join(f"{part.label}: {shown(found)}{_fewer(found, worlds)}" for part, found in pairs)
    wanted = "; ".join(part.wanted() for part in one.claim.parts).replace("-", "−")
    return one.claim.says, one.claim.where, one.claim.paper, here, f"**{one.verdict}**", wanted


def _why(one: Judged) -> str:
    return one.claim.untested or "this size does not measure it"


def _making(making: Making) -> list[str]:
    seconds = f"{sum(making.seconds.values()):,.0f} seconds of steps"
    worlds = ", ".join(map(str, making.worlds))
    return [
        f"```bash\n{making.command}\n```",
        f"{making.date}, version {making.version}, size {making.size}, worlds {worlds}: {seconds}, "
        f"of which some ran side by side. {making.link('How, and how to do it again', 'reproduction.md')}.",
        _table(
            ("step", "seconds, all worlds"), ((name, f"{one:,.0f}") for name, one in making.seconds.items())
        ),
        _table(
            ("setting", "value"), ((name, f"`{_value(value)}`") for name, value in making.settings.items())
        ),
    ]


def _value(value: Any) -> str:
    """A setting as one would type it, several of them side by side."""
    return " ".join(more(value)) if isinstance(value, Mapping) else quoted(value)


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
