"""From groups of runs to the numbers that figures show."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rlhf_rm.report.runs import Group, TrainedRun, differing, short_keys
from rlhf_rm.report.table import Estimate, estimate, metric_of, over_seeds

SLICE = "denoise.recipe.steps.slice.number"
FLIP = "denoise.recipe.steps.slice.flip"
OF = "denoise.recipe.steps.slice.of"
TENTHS = "10"  # of how many slices each is a tenth, as in the paper
POINTS = 300  # of a curve: more than a figure can show
Numbers = dict[str, Any]
Line = tuple[str, tuple[tuple[str, str], ...]]  # how the labels are, and the other settings


def comparison(groups: Sequence[Group], name: str) -> Numbers | None:
    """A metric of each group that has measured it; None unless two have."""
    rows = []
    for group in groups:
        found = over_seeds(group, name)
        if found is not None:
            each = [metric_of(run, name) for run in group.runs.values()]
            rows.append({"name": group.name, **asdict(found), "each": each})
    return {"metric": name, "groups": rows} if len(rows) > 1 else None


def curves(groups: Sequence[Group], name: str) -> Numbers | None:
    """A metric over the steps of training; None if no run has logged it."""
    rows = []
    for group in groups:
        logged = [dict(run.curves.get(name, ())) for run in group.runs.values()]
        steps = thinned(sorted(set.intersection(*(set(one) for one in logged))))
        if steps:
            found = [estimate([one[step] for one in logged]) for step in steps]
            rows.append({"name": group.name, "steps": steps, **_columns(found)})
    return {"metric": name, "groups": rows} if rows else None


def by_slice(groups: Sequence[Group], name: str) -> Numbers | None:
    """A metric by the tenth by strength that was trained on, as in the paper; None without such runs.

    A line is of the labels as they are or flipped, and of the other settings, where lines differ in any.
    """
    lines = _by_tenth(groups)
    varying = short_keys(differing([dict(rest) for _, rest in lines]))
    shown = {}
    for (side, rest), tenths in lines.items():
        found = {number: over_seeds(group, name) for number, group in sorted(tenths.items())}
        known = {number: one for number, one in found.items() if one is not None}
        if known:
            settings = [f"{varying[key]}={value}" for key, value in rest if key in varying]
            shown[", ".join([side, *settings])] = {"tenths": list(known), **_columns(list(known.values()))}
    return {"metric": name, "lines": dict(sorted(shown.items()))} if shown else None


def _by_tenth(groups: Sequence[Group]) -> dict[Line, dict[int, Group]]:
    """The groups that trained on one tenth, by their line and by the tenth, from 1, the weakest.

    What they were told counts, not what varies: runs of which all are flipped are flipped.
    """
    lines: dict[Line, dict[int, Group]] = {}
    for group in groups:
        told = next(iter(group.runs.values())).overrides
        if SLICE not in told or told.get(OF, TENTHS) != TENTHS:
            continue
        side = "flipped" if told.get(FLIP, "false").lower() == "true" else "as labelled"
        rest = {key: value for key, value in group.settings.items() if key not in (SLICE, FLIP, OF)}
        tenths, number = lines.setdefault((side, tuple(rest.items())), {}), int(told[SLICE]) + 1
        # One was told a default, and another not: they are the same.
        others = tenths[number].runs if number in tenths else {}
        tenths[number] = Group(group.name, rest, {**others, **group.runs})
    return lines


def reliability(groups: Sequence[Group]) -> Numbers | None:
    """The bins of the reliability diagram, pooled over the seeds of each group; None unless two have any."""
    rows = []
    for group in groups:
        measured = [_test_set(run) for run in group.runs.values()]
        if all(measured):
            rows.append(
                {"name": group.name, "bins": _pooled([one["reliability"]["bins"] for one in measured])}
            )
    return {"groups": rows} if len(rows) > 1 else None


def length_bias(groups: Sequence[Group]) -> Numbers | None:
    """Accuracy by which response is longer; None unless two groups have both kinds of pairs."""
    names = ("accuracy_longer_chosen", "accuracy_longer_rejected")
    rows = []
    for group in groups:
        found = [over_seeds(group, name) for name in names]
        if all(one is not None for one in found):
            pairs = zip(names, found, strict=True)
            rows.append({"name": group.name, **{name: asdict(one) for name, one in pairs if one is not None}})
    return {"groups": rows} if len(rows) > 1 else None


def lines(run: TrainedRun, names: Mapping[str, str]) -> Numbers | None:
    """Curves of one run in one figure, those of single steps as running means; None if it has logged none.

    Args:
        run: which.
        names: of the curves, and how each is called.
    """
    drawn = []
    for name, label in names.items():
        points = list(run.curves.get(name, ()))
        if not points:
            continue
        window = max(1, len(points) // 12) if name.startswith("train/") else 1
        steps = [step for step, _ in points][window - 1 :]
        values = running_mean([value for _, value in points], window)
        over = f", mean of {window} logged steps" if window > 1 else ""
        drawn.append({"name": f"{label}{over}", "steps": thinned(steps), "values": thinned(values)})
    return {"lines": drawn} if drawn else None


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of each ``window`` values that follow each other; as many fewer than were given."""
    return [sum(values[end - window : end]) / window for end in range(window, len(values) + 1)]


def thinned(values: Sequence[Any]) -> list[Any]:
    """At most :data:`POINTS` of them, evenly, with the last."""
    stride = -(-len(values) // POINTS)
    return list(values[::-1][::stride][::-1]) if stride > 1 else list(values)


def _columns(found: Sequence[Estimate]) -> Numbers:
    return {name: [getattr(one, name) for one in found] for name in ("mean", "low", "high")}


def _test_set(run: TrainedRun) -> Mapping[str, Any]:
    sets: Mapping[str, Mapping[str, Any]] = run.drawn.get("sets", {})
    return next(iter(sets.values()), {})


def _pooled(runs: Sequence[Sequence[Mapping[str, Any]]]) -> list[Numbers]:
    """Bins of several runs as those of all their pairs together."""
    together: dict[float, list[Mapping[str, Any]]] = {}
    for one in (one for bins in runs for one in bins):
        together.setdefault(round(one["from"], 6), []).append(one)
    pooled = []
    for _, bins in sorted(together.items()):
        pairs = sum(one["pairs"] for one in bins)
        means = {
            name: sum(one["pairs"] * one[name] for one in bins) / pairs for name in ("confidence", "accuracy")
        }
        pooled.append({"from": bins[0]["from"], "to": bins[0]["to"], "pairs": pairs, **means})
    return pooled
