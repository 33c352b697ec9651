"""The section on judgements: who wins against whom."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf_rm.report.figures import outcomes
from rlhf_rm.report.inputs import expecting, read
from rlhf_rm.report.look_for import LOOK_FOR
from rlhf_rm.report.section import Plot, Section, Table

OUTCOMES = ("win", "tie", "lose", "no_answer")


def section(directories: Mapping[Path, str]) -> tuple[Section, dict[str, Any]]:
    """All judgements in one section, and what they say for ``report.json``.

    Args:
        directories: that `judge` left, and how each is called.

    Raises:
        UserError: a file of them is damaged.
    """
    told, rows, groups = {}, [], []
    for directory, name in directories.items():
        file = directory / "judgement.json"
        told[name] = read(file)
        with expecting(file):
            one = told[name]
            margin = one["win_minus_lose"]
            groups.append({"name": name, **{key: one[key]["share"] for key in OUTCOMES}})
            low, high = margin["ci95"] or (None, None)
            between = "" if low is None else f" ({low:+.1%} to {high:+.1%})"
            shares = [f"{one[key]['share']:.1%}" for key in OUTCOMES[:3]]
            files = ["/".join(Path(one[side]).parts[-2:]) for side in ("a", "b")]
            count = f"{one['comparisons']:,}"
            rows.append([name, *files, one["judge"], count, *shares, f"{margin['share']:+.1%}{between}"])
    head = ["", "a", "b", "judge", "comparisons", "a wins", "tie", "a loses", "wins − losses (95 %)"]
    plot = Plot("judgements", LOOK_FOR["judgements"], {"groups": groups}, outcomes)
    lead = "Responses of a against responses of b to the same prompts."
    return Section("Judgements", lead, tables=[Table(head, rows)], plots=[plot]), told
