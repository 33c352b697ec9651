"""`rlhf-rm report`: one page, with its figures and numbers, on runs, votes, rounds and what was measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rlhf_rm.commands.quiet import quiet
from rlhf_rm.errors import UserError, reading
from rlhf_rm.files import write_json, write_text
from rlhf_rm.overrides import TYPED, as_read, typed
from rlhf_rm.plots.style import palettes
from rlhf_rm.report import evaluations, groups, judgements, rounds, votes
from rlhf_rm.report import run as one_run
from rlhf_rm.report.inputs import (
    EVALUATION,
    JUDGEMENT,
    RECOGNISED,
    ROUNDS,
    RUN,
    VOTE,
    Inputs,
    find_inputs,
    short_names,
    slugs,
)
from rlhf_rm.report.page import page
from rlhf_rm.report.runs import Group, grouped, read_run
from rlhf_rm.report.section import Section

DETAILED = 6  # most groups of which the first run has a section of its own
SERIES = "series of rounds"  # one or several


def run(cfg: DictConfig) -> dict[str, Any]:
    """Write ``report.json``, ``report.html`` and its PNGs, and print the table of the runs.

    Raises:
        UserError: an input that is nothing known or is damaged, or no such baseline.
    """
    quiet()
    inputs = find_inputs(patterns(cfg.inputs))
    together = grouped([read_run(path, told(path)) for path in inputs.of(RUN)])
    baseline = groups.named(together, as_typed(cfg.baseline, [group.name for group in together]))
    name = baseline.name if baseline else None
    rows = [groups.row(group, baseline) for group in together]
    report: dict[str, Any] = {
        "runs": len(inputs.of(RUN)),
        "baseline": name,
        "groups": rows,
        "inputs": [{"kind": kind, "directory": str(path)} for kind, path in inputs.found],
        "unfinished": [str(path) for path in inputs.unfinished],
        "unknown": [str(path) for path in inputs.unknown],
    }
    of_others, numbers = _of_others(inputs)
    report |= numbers
    sections = [*groups.sections(together, rows, name), *_details(together), *of_others]
    report["figures"] = {plot.name: plot.numbers for one in sections for plot in one.plots}
    run_dir = Path(cfg.paths.run_dir)
    write(run_dir, report, sections, _lead(inputs, together))
    if len(inputs.of(RUN)) > 1:
        print(groups.as_text(groups.table(rows, name)))
    print("\n".join(["", *_lead(inputs, together)]))
    print(f"\nreport  {run_dir / 'report.html'}, {run_dir / 'report.json'}, {run_dir}/*.png")
    return report


def as_typed(value: Any, names: Sequence[str]) -> str | None:
    """The one of some names that Hydra has read as this value, 1e-3 as 0.001; else the value as text."""
    if value is None:
        return None
    asked = as_read(str(value))
    return next((name for name in names if as_read(name) == asked), str(value))


def patterns(inputs: Any) -> list[str]:
    """The paths and globs that ``inputs`` names, one or several; the jobs of a sweep are called by numbers.

    Raises:
        UserError: it names none.
    """
    several = list(inputs) if OmegaConf.is_list(inputs) else [inputs]
    named = [str(one) for one in several if isinstance(one, str | int) and not isinstance(one, bool)]
    if not several or len(named) < len(several):
        raise UserError(
            f"inputs={inputs} names no directory: give {RECOGNISED}, or a glob of them, several as [a,b]."
        )
    return named


def told(run_dir: Path) -> dict[str, str]:
    """The overrides of a run by key; one that Hydra did not start is told from others by its directory.

    Raises:
        UserError: the file of them is damaged.
    """
    file = run_dir / TYPED
    if not file.is_file():
        return {"run": str(run_dir)}
    with reading(file, f"train the run anew, or leave {run_dir} out"):
        return typed(file)


def write(run_dir: Path, report: dict[str, Any], sections: Sequence[Section], lead: Sequence[str]) -> None:
    """Leave the numbers, the figures, and the page of both; each figure is drawn once."""
    import matplotlib

    drawings = {}
    with matplotlib.rc_context({"text.parse_math": False}):  # a name with two $ is no formula
        for plot in (plot for one in sections for plot in one.plots):
            figure = plot.figure()
            figure.savefig(run_dir / f"{plot.name}.png")
            drawings[plot.name] = palettes(figure)
    write_json(run_dir / "report.json", report)
    write_text(run_dir / "report.html", page("Report", lead, sections, drawings))


def _details(together: Sequence[Group]) -> list[Section]:
    """A section for the first run of each group, unless there are too many."""
    if len(together) > DETAILED:
        return []
    shown = [next(iter(group.runs.values())) for group in together]
    names = [group.name for group in together]
    if len(together) == 1:
        names = [shown[0].directory.name]
    prefixes = slugs([f"run {name}" for name in names])
    return [one_run.section(*one) for one in zip(shown, names, prefixes, strict=True)]


def _of_others(inputs: Inputs) -> tuple[list[Section], dict[str, Any]]:
    """The sections on what is no run, and what ``report.json`` says of it."""
    sections: list[Section] = []
    numbers: dict[str, Any] = {}
    for kind, key, part in (
        (VOTE, "votes", votes),
        (ROUNDS, "rounds", rounds),
        (EVALUATION, "evaluations", evaluations),
    ):
        for path, name in short_names(inputs.of(kind)).items():
            section, found = part.section(path, name)
            sections.append(section)
            numbers.setdefault(key, {})[name] = found
    judged = short_names(inputs.of(JUDGEMENT))
    if judged:
        section, numbers["judgements"] = judgements.section(judged)
        sections.append(section)
    return sections, numbers


def _lead(inputs: Inputs, together: Sequence[Group]) -> list[str]:
    """What the report is of, and what was left out."""
    counts = [(kind, len(inputs.of(kind))) for kind in (RUN, VOTE, ROUNDS, EVALUATION, JUDGEMENT)]
    lines = [
        ", ".join(f"{n} {SERIES if kind == ROUNDS else kind + 's' * (n > 1)}" for kind, n in counts if n)
        + "."
    ]
    if inputs.unfinished:
        names = ", ".join(map(str, inputs.unfinished))
        lines.append(f"Left out, since unfinished: {names}.")
    if inputs.unknown:
        lines.append(f"Left out, since nothing known lies there: {', '.join(map(str, inputs.unknown))}.")
    if len(together) > DETAILED:
        lines.append(f"Of more than {DETAILED} groups of runs none has a section of its own.")
    elif any(len(group.runs) > 1 for group in together):
        lines.append("The first run of each group has a section of its own.")
    return lines
