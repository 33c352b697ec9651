"""The section on one evaluation: a reward model on one preference set or several."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rlhf_rm.metrics.names import with_interval
from rlhf_rm.report import figures
from rlhf_rm.report.inputs import expecting, read, slug
from rlhf_rm.report.look_for import LOOK_FOR
from rlhf_rm.report.preference import preference_plots
from rlhf_rm.report.section import Plot, Section, Table

COLUMNS = {
    "pairs": "pairs",
    "accuracy": "accuracy (95 %)",
    "ties": "ties",
    "ece": "ECE",
    "brier": "Brier",
    "mean_margin": "mean margin",
    "length_correlation": "rank correlation with length",
    "accuracy_longer_rejected": "rejected longer",
    "accuracy_longer_chosen": "chosen longer",
    "trained_on": "pairs it was trained on",
}


def section(directory: Path, name: str) -> tuple[Section, dict[str, Any]]:
    """An evaluation as a section of the page, and its sets for ``report.json``.

    Args:
        directory: that `evaluate` left.
        name: what it is called.

    Raises:
        UserError: a file of it is damaged.
    """
    file, figures_file = directory / "evaluation.json", directory / "figures.json"
    told = read(file)
    prefix = f"evaluation_{slug(name)}"
    with expecting(file):
        sets: dict[str, Any] = told["sets"]
        columns = [key for key in COLUMNS if any(key in one for one in sets.values())]
        rows = [[name, *_cells(one, columns)] for name, one in sets.items()]
        table = Table(["", *(COLUMNS[key] for key in columns)], rows)
        plots = _of_sets(sets, prefix)
        lead = f"{directory}: {told['run']} on {', '.join(sets)}."
    with expecting(figures_file):
        drawn = read(figures_file)["sets"] if figures_file.is_file() else {}
        if len(drawn) == 1:
            plots += preference_plots(next(iter(drawn.values())), prefix, next(iter(drawn)))
        elif drawn:
            bins = [{"name": one, "bins": shown["reliability"]["bins"]} for one, shown in drawn.items()]
            plots.append(
                Plot(
                    f"{prefix}_reliability",
                    LOOK_FOR["reliability_of_groups"],
                    {"groups": bins},
                    figures.reliability,
                )
            )
    return Section(f"Evaluation {name}", lead, tables=[table], plots=plots), sets


def _of_sets(sets: Mapping[str, Any], prefix: str) -> list[Plot]:
    plots = []
    if len(sets) > 1:
        groups = []
        for name, one in sets.items():
            low, high = one["accuracy_ci95"] or (None, None)
            groups.append({"name": name, "mean": one["accuracy"], "low": low, "high": high})
        plots.append(
            Plot(f"{prefix}_accuracy", LOOK_FOR["sets"], {"groups": groups}, figures.accuracy_of_sets)
        )
    for name, one in sets.items():
        if "by_strength" in one:
            plot, bins = f"{prefix}_{slug(name)}_strength", one["by_strength"]
            draw = partial(figures.accuracy_by_strength, of=name)
            plots.append(Plot(plot, LOOK_FOR["by_strength"], bins, draw))
    return plots


def _cells(measured: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    cells = []
    for key in columns:
        value = measured.get(key)
        if value is None or isinstance(value, int):
            cells.append("–" if value is None else f"{value:,}")
        else:
            cells.append(with_interval(value, measured.get(f"{key}_ci95")))
    return cells
