"""The sections on many runs: their table, what they compare, and their curves, over seeds with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rlhf_rm.errors import UserError
from rlhf_rm.metrics.names import with_interval
from rlhf_rm.metrics.reference import REFERENCES
from rlhf_rm.report import figures, numbers
from rlhf_rm.report.look_for import LOOK_FOR
from rlhf_rm.report.runs import Group
from rlhf_rm.report.section import Plot, Section, Table
from rlhf_rm.report.table import Estimate, over_seeds, paired

METRICS = (
    "accuracy",
    *(f"{kind}val/accuracy_{name}" for name in REFERENCES for kind in ("", "best ", "lost ")),
    "val/accuracy",
    "gold",
    "gold_reference",
    "reward",
    "reward_reference",
    "length",
    "length_reference",
    "perplexity",
)
COMPARED = ("accuracy", "gold", "reward")  # of policies the first that two groups have measured
CURVES = (*(f"val/accuracy_{name}" for name in REFERENCES), "val/accuracy", "val/loss")
POLICY_CURVES = ("train/gold", "train/reward", "train/kl")
SHADE = "The line is the mean of the seeds, the shade its 95 % interval."


def row(group: Group, baseline: Group | None) -> dict[str, Any]:
    """A group's numbers, and with a baseline their paired differences from it."""
    metrics = {name: found for name in METRICS if (found := over_seeds(group, name)) is not None}
    result: dict[str, Any] = {
        "name": group.name,
        "settings": dict(group.settings),
        "seeds": list(group.runs),
        "metrics": {name: asdict(found) for name, found in metrics.items()},
    }
    if baseline is not None and group is not baseline:
        against = {name: found for name in metrics if (found := paired(group, baseline, name)) is not None}
        result["against_baseline"] = {name: asdict(found) for name, found in against.items()}
    return result


def sections(
    groups: Sequence[Group], rows: Sequence[Mapping[str, Any]], baseline: str | None
) -> list[Section]:
    """What the groups say beside each other; nothing about a single run.

    Args:
        groups: of runs.
        rows: see :func:`row`, one a group.
        baseline: the name of the group that the others are compared with.
    """
    runs = sum(len(group.runs) for group in groups)
    if runs < 2:
        return []
    lead = (
        f"{runs} runs in {len(groups)} group{'s' * (len(groups) > 1)}; those of a group differ in the seed "
        "alone. Numbers are means over seeds with 95 % intervals by Student's t; one seed has none."
    )
    found = [Section("Runs", lead, tables=[table(rows, baseline)], plots=_compared(groups))]
    drawn = _curves(groups)
    if drawn:
        found.append(Section("Training curves", SHADE, plots=drawn))
    slices = numbers.by_slice(groups, "accuracy")
    if slices is not None:
        plot = Plot("slices", LOOK_FOR["slices"], slices, figures.by_slice)
        found.append(
            Section("One tenth alone", "Each model saw a tenth of the pairs by strength.", plots=[plot])
        )
    return found


def table(rows: Sequence[Mapping[str, Any]], baseline: str | None) -> Table:
    """A line for each group; a column for each metric that any has measured."""
    names = [name for name in METRICS if any(name in group["metrics"] for group in rows)]
    against = [f"{name} − {baseline}" for name in names[:1]] if baseline else []
    lines = []
    for group in rows:
        cells = [group["name"], str(len(group["seeds"]))]
        cells += [_shown(group["metrics"].get(name)) for name in names]
        cells += [_shown(group.get("against_baseline", {}).get(name)) for name in names[: len(against)]]
        lines.append(cells)
    return Table(["", "seeds", *names, *against], lines)


def as_text(shown: Table) -> str:
    """A table as aligned lines."""
    cells = [shown.head, *shown.rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(shown.head))]
    lines = ("  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)
    return "\n".join(["", *lines])


def named(groups: Sequence[Group], name: str | None) -> Group | None:
    """The group that the others are compared with.

    Raises:
        UserError: no group has this name.
    """
    if name is None:
        return None
    found = [group for group in groups if group.name == name]
    if not found:
        known = "; ".join(group.name for group in groups) or "none, since there is no run among the inputs"
        raise UserError(f"baseline={name} is no group: use one of {known}.")
    return found[0]


def _compared(groups: Sequence[Group]) -> list[Plot]:
    of_policies = next((name for name in COMPARED[1:] if numbers.comparison(groups, name)), None)
    wanted = [
        *((name, "comparison", numbers.comparison(groups, name), figures.comparison)
          for name in (COMPARED[0], of_policies) if name),
        ("reliability", "reliability_of_groups", numbers.reliability(groups), figures.reliability),
        ("length", "length_of_groups", numbers.length_bias(groups), figures.length_bias),
    ]  # fmt: skip
    return [Plot(name, LOOK_FOR[aid], found, draw) for name, aid, found, draw in wanted if found is not None]


def _curves(groups: Sequence[Group]) -> list[Plot]:
    policies = [group for group in groups if any("train/kl" in run.curves for run in group.runs.values())]
    wanted = [(name, numbers.curves(groups, name)) for name in CURVES]
    wanted += [(name, numbers.curves(policies, name)) for name in POLICY_CURVES]
    return [
        Plot(f"{name.replace('/', '_')}_curves", LOOK_FOR[name], found, figures.curves)
        for name, found in wanted
        if found is not None
    ]


def _shown(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    one = Estimate(**found)
    interval = None if one.low is None or one.high is None else (one.low, one.high)
    return with_interval(one.mean, interval)
