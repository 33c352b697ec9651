"""The page on what of the paper holds here, in Markdown, and the same as JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlhf_rm.report.table import Estimate
from rlhf_rm.reproduction.verdict import FAILS, HOLDS, UNDECIDED, UNTESTED, Judged

LEAD = (
    '"Secrets of RLHF in Large Language Models Part II: Reward Modeling" (arXiv 2401.06080) and MetaRM '
    "(arXiv 2405.00438) in [the synthetic world](synthetic_world.md), where the true reward, gold, is "
    "known: a model of 1 M parameters in place of Llama 2; labels by Bradley–Terry on gold, a fifth of "
    "them turned where noise is the subject, in place of people's; and gold in place of GPT-4. That a "
    "claim holds says that the code does what the paper describes and that the claim reaches this far; "
    "that it does not, says that it does not reach here. Neither speaks about the paper's own "
    "experiments."
)
HOW = (
    "Numbers are means over worlds with 95 % intervals by Student's t; each world has a seed of its own "
    "for its facts, its labels and all trainings. A claim **holds** where the whole interval lies "
    "within the bounds in the last column, **does not hold** where all of it lies beyond, and is **not "
    "decided** in between; one with several numbers holds only with all of them. The bounds are ours, "
    'and were set before these numbers were made. What is called "best", "worst" or "smallest", and '
    "what was lost from the best, is chosen by what it came to, and leans to that side."
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
    """

    command: str
    version: str
    size: str
    worlds: Sequence[int]
    seconds: Mapping[str, float]
    settings: Mapping[str, Any]
    date: str


def page(judged: Sequence[Judged], making: Making) -> str:
    """Markdown: the verdicts, then how they were made."""
    counts = Counter(one.verdict for one in judged)
    total = ", ".join(f"{counts[name]} {name}" for name in (HOLDS, FAILS, UNDECIDED, UNTESTED))
    tested = [one for one in judged if one.verdict != UNTESTED]
    left = [one for one in judged if one.verdict == UNTESTED]
    parts = ["# What of the paper holds here", LEAD, f"**{len(judged)} claims: {total}.**", HOW]
    parts.append(_table(("claim", "section", "paper", "here", "verdict", "holds if"), map(_row, tested)))
    if left:
        rows = ((one.claim.says, one.claim.where, one.claim.paper, _why(one)) for one in left)
        parts += ["## Not tested", _table(("claim", "section", "paper", "why"), rows)]
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


def _row(one: Judged) -> tuple[str, ...]:
    pairs = zip(one.claim.parts, one.found, strict=True)
    here = "; ".join(f"{part.label}: {shown(found)}" for part, found in pairs)
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
        "of which some ran side by side. [How, and how to do it again](reproduction.md).",
        _table(
            ("step", "seconds, all worlds"), ((name, f"{one:,.0f}") for name, one in making.seconds.items())
        ),
        _table(("setting", "value"), ((name, str(value)) for name, value in making.settings.items())),
    ]


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
