"""The section on one vote: how strong the preferences are, and the pairs worth reading."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlhf_rm.data.strengths import MANIFEST, read_strengths
from rlhf_rm.data.worth_reading import FILE, read_worth_reading
from rlhf_rm.report import paper
from rlhf_rm.report.inputs import expecting, read, slug
from rlhf_rm.report.look_for import LOOK_FOR
from rlhf_rm.report.section import Fact, Plot, Section, Table
from rlhf_rm.voting.drawn import drawn
from rlhf_rm.voting.figures import agreement_by_strength, std_by_strength, strength_histogram
from rlhf_rm.voting.page import TITLES
from rlhf_rm.voting.summary import summarise


def section(directory: Path, name: str) -> tuple[Section, dict[str, Any]]:
    """A vote as a section of the page, and its summary for ``report.json``.

    Args:
        directory: that the vote left; without a manifest its strengths speak alone.
        name: what it is called.

    Raises:
        UserError: a file of it is damaged.
    """
    manifest = directory / MANIFEST
    told = read(manifest) if manifest.is_file() else {}
    with expecting(manifest):
        strengths = read_strengths(directory)
        summary = told["summary"] if told else summarise(strengths, {})
        shown = drawn(strengths, summary)
        tables = [_quantiles(summary["quantiles"]), *_wrong(summary)]
    with expecting(directory / FILE):
        pairs = read_worth_reading(directory)
    members = len(strengths.members_MB)  # 0 of strengths that others wrote as means alone
    lead = f"{directory}: how strong {members or 'several'} reward models find each preference."
    if not pairs:
        lead += (
            f" It kept no {FILE}, so there are no pairs to read here: the same vote command again writes it."
        )
    plots = _plots(shown, f"vote_{slug(name)}")
    return Section(f"Vote {name}", lead, _facts(summary, members), tables, plots, pairs, TITLES), summary


def _plots(shown: Mapping[str, Any], prefix: str) -> list[Plot]:
    wanted: list[tuple[str, Any, Callable[[Any], Any]]] = [
        ("strength", {name: shown[name] for name in ("strength", "std")}, strength_histogram),
        ("std", shown["std_by_strength"], std_by_strength),
    ]
    if "agreement" in shown:
        wanted.append(("agreement", shown["agreement"], agreement_by_strength))
    return [Plot(f"{prefix}_{name}", LOOK_FOR[name], numbers, draw) for name, numbers, draw in wanted]


def _facts(summary: Mapping[str, Any], members: int) -> list[Fact]:
    facts = [
        Fact("pairs", f"{summary['pairs']:,}", f"{members} members" if members else ""),
        Fact("labels against the vote", f"{summary['negative']:.1%}"),
        Fact(
            "median strength",
            f"{summary['quantiles']['50']:.2f}",
            f"± {summary['mean_std']:.2f} between members",
        ),
    ]
    auroc = summary.get("wrong_labels", {}).get("auroc")
    if auroc is not None:
        facts.append(Fact("AUROC for wrong labels", f"{auroc:.3f}", f"by {summary['reference']}"))
    return facts


def _quantiles(ours: Mapping[str, float]) -> Table:
    head = ["quantile of the mean", *(f"{q} %" for q in ours)]
    published = [f"{paper.QUANTILES[q]:.2f}" if q in paper.QUANTILES else "" for q in ours]
    return Table(
        head, [["this vote", *(f"{one:.2f}" for one in ours.values())], ["the paper's, HH-RLHF", *published]]
    )


def _wrong(summary: Mapping[str, Any]) -> list[Table]:
    """How well weakness finds wrong labels, where those are known."""
    wrong = summary.get("wrong_labels")
    if not wrong or wrong["auroc"] is None:
        return []
    rows = [
        [f"labels that {summary['reference']} calls wrong", f"{wrong['share']:.1%}"],
        ["AUROC of −mean for them", f"{wrong['auroc']:.3f}"],
        ["share of wrong labels in the weakest tenth", f"{wrong['precision_lowest_tenth']:.3f}"],
    ]
    rows += [
        [f"AUROC with {size} member{'s' * (size != '1')}", f"{value:.3f}"]
        for size, value in wrong["auroc_by_members"].items()
        if value is not None
    ]
    return [Table(["wrong labels", ""], rows)]
