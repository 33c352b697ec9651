"""`rlhf-rm report`: one table and figures of many runs, over seeds, with intervals."""

import base64
import glob
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rlhf_rm.commands.quiet import quiet
from rlhf_rm.errors import UserError
from rlhf_rm.files import write_json, write_text
from rlhf_rm.html import document
from rlhf_rm.report.figures import by_slice, comparison, curves
from rlhf_rm.report.runs import Group, grouped, read_runs
from rlhf_rm.report.table import Estimate, over_seeds, paired

METRICS = (
    "accuracy",
    "val/accuracy_gold",
    "best val/accuracy_gold",
    "lost val/accuracy_gold",
    "val/accuracy",
    "gold",
    "gold_reference",
    "reward",
    "reward_reference",
    "length",
    "perplexity",
)
CURVES = ("val/accuracy_gold", "val/accuracy", "val/loss", "train/gold", "train/reward", "train/kl")
COMPARED = ("accuracy", "gold", "reward")  # of these the first that all have measured is drawn


def run(cfg: DictConfig) -> dict[str, Any]:
    """Write ``report.json``, ``report.html`` and its PNGs, and print the table.

    Raises:
        UserError: no finished run among the inputs, or no such baseline.
    """
    quiet()
    patterns = [cfg.inputs] if isinstance(cfg.inputs, str) else list(cfg.inputs)
    directories = [path for pattern in patterns for path in find_runs(pattern)]
    groups = grouped(read_runs(directories, {path: told(path) for path in directories}))
    baseline = _baseline(groups, cfg.baseline)
    rows = [row(group, baseline) for group in groups]
    figures = {f"{name.replace('/', '_')}_curves": curves(groups, name) for name in CURVES}
    figures["slices"] = by_slice(groups, "accuracy")
    for name in [one for one in COMPARED if all(over_seeds(group, one) for group in groups)][:1]:
        figures[name] = comparison(groups, name)
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    run_dir = Path(cfg.paths.run_dir)
    for name, figure in drawn.items():
        figure.savefig(run_dir / f"{name}.png")
    report = {"runs": len(directories), "baseline": baseline.name if baseline else None, "groups": rows}
    write_json(run_dir / "report.json", report)
    write_text(run_dir / "report.html", page(report, drawn))
    print(describe(report))
    print(f"\nreport  {run_dir / 'report.html'}, {run_dir / 'report.json'}, {run_dir}/*.png")
    return report


def find_runs(pattern: str) -> list[Path]:
    """The run directories that a glob names, or that lie in a sweep's directory.

    Raises:
        UserError: it names none.
    """
    found = [Path(path) for path in sorted(glob.glob(pattern))]  # noqa: PTH207 — Path.glob takes no absolute one
    found = [path for path in found if path.is_dir()]
    inside = [path for one in found for path in ([one] if _is_run(one) else sorted(one.iterdir()))]
    runs = [path for path in inside if _is_run(path)]
    if not runs:
        raise UserError(f"inputs={pattern} names no run directory: give runs, sweeps, or a glob of them.")
    return runs


def told(run_dir: Path) -> dict[str, str]:
    """The overrides of a run by key."""
    file = run_dir / ".hydra" / "overrides.yaml"
    given = [str(one).split("=", 1) for one in OmegaConf.load(file)] if file.is_file() else []
    return {key.lstrip("+~"): value for key, value in (one for one in given if len(one) == 2)}


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


def describe(report: Mapping[str, Any]) -> str:
    """The table as lines."""
    cells = _cells(report)
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ("  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)
    return "\n".join(["", *lines])


def page(report: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """The HTML of a report."""
    head, *rows = _cells(report)
    table = "<tr>" + "".join(f"<th>{escape(one)}</th>" for one in head) + "</tr>"
    for line in rows:
        table += "<tr>" + "".join(f"<td>{escape(one)}&emsp;</td>" for one in line) + "</tr>"
    images = []
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        data = base64.b64encode(buffer.getvalue()).decode()
        images.append(f"<img alt='{escape(name)}' src='data:image/png;base64,{data}'>")
    lead = f"{report['runs']} runs in {len(report['groups'])} groups; intervals are 95 %, over seeds."
    return document(
        "Report",
        [
            "<h1>Report</h1>",
            f"<p class='lead'>{lead}</p>",
            f"<div class='wide'><table>{table}</table></div>",
            *images,
        ],
    )


def _cells(report: Mapping[str, Any]) -> list[list[str]]:
    names = [name for name in METRICS if any(name in group["metrics"] for group in report["groups"])]
    head = ["", "seeds", *names]
    if report["baseline"]:
        head += [f"{name} − {report['baseline']}" for name in names[:1]]
    lines = [head]
    for group in report["groups"]:
        line = [group["name"], str(len(group["seeds"]))]
        line += [_shown(group["metrics"].get(name)) for name in names]
        if report["baseline"]:
            line += [_shown(group.get("against_baseline", {}).get(name)) for name in names[:1]]
        lines.append(line)
    return lines


def _shown(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    one = Estimate(**found)
    return f"{one.mean:.3f}" + ("" if one.low is None else f" ({one.low:.3f} to {one.high:.3f})")


def _baseline(groups: Sequence[Group], name: str | None) -> Group | None:
    if name is None:
        return None
    found = [group for group in groups if group.name == name]
    if not found:
        raise UserError(
            f"baseline={name} is no group: use one of {'; '.join(group.name for group in groups)}."
        )
    return found[0]


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file()
