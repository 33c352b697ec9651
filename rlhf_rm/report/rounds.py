"""The section on rounds of iterated RLHF."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_rm.report.inputs import expecting, read, slug
from rlhf_rm.report.look_for import LOOK_FOR
from rlhf_rm.report.policies import proxy_plots
from rlhf_rm.report.section import Fact, Plot, Section, Table, on_axes
from rlhf_rm.rounds.figures import accuracies, has_accuracy, outcomes, scores, spreads
from rlhf_rm.rounds.stage import round_name
from rlhf_rm.rounds.table import Row, cells


def section(directory: Path, name: str) -> tuple[Section, dict[str, Any]]:
    """Rounds as a section of the page, and their rows for ``report.json``.

    Args:
        directory: that `iterate` left.
        name: what they are called.

    Raises:
        UserError: a file of it is damaged.
    """
    file = directory / "rounds.json"
    told, prefix = read(file), f"rounds_{slug(name)}"
    with expecting(file):
        rows: list[Row] = list(told["rounds"])
        head, *lines = cells(rows)
        plots = _plots(rows, prefix)
        many = f"{len(rows)} of {told['planned']} rounds"
        lead = f"{directory}: {many} with method={told['method']}, each judged against the first policy."
    plots += proxy_plots(_histories(directory, rows), prefix)
    return Section(f"Rounds {name}", lead, _facts(rows), [Table(head, lines)], plots), told


def _facts(rows: Sequence[Row]) -> list[Fact]:
    """Where the rounds have led: the last of them."""
    first, last = rows[0], rows[-1]
    low, high = last["win_minus_lose_ci95"] or (None, None)
    between = "" if low is None else f"95 %: {low:+.0%} to {high:+.0%}"
    facts = [
        Fact(
            "win, tie, lose at the end",
            " – ".join(f"{100 * last[one]:.0f}" for one in ("win", "tie", "lose")),
            "per cent",
        ),
        Fact("wins less losses", f"{last['win_minus_lose']:+.1%}", between),
    ]
    for key, label in (("gold", "gold"), ("accuracy_policy", "accuracy on the policy")):
        if key in first and key in last:
            facts.append(Fact(label, f"{last[key]:.3f}", f"{first[key]:.3f} in round 1"))
    return facts


def _plots(rows: Sequence[Row], prefix: str) -> list[Plot]:
    wanted = (
        ("outcomes", "outcomes", outcomes, rows),
        ("accuracy", "accuracy_of_rounds", accuracies, [row for row in rows if has_accuracy(row)]),
        ("scores", "scores", scores, [row for row in rows if "reward" in row]),
        ("spread", "spread", spreads, [row for row in rows if "apart" in row]),
    )
    return [
        Plot(f"{prefix}_{name}", LOOK_FOR[aid], list(some), on_axes(draw))
        for name, aid, draw, some in wanted
        if some
    ]


def _histories(directory: Path, rows: Sequence[Row]) -> dict[str, Sequence[Mapping[str, Any]]]:
    """The iterations of each round's PPO."""
    found = {}
    for row in rows:
        file = directory / round_name(row["round"]) / "policy" / "metrics.json"
        if file.is_file():
            with expecting(file):
                found[f"round {row['round']}"] = read(file)["history"]
    return found
