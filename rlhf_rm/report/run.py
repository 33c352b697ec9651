"""The section on one run: what it measured, its curves, its figures, and the pairs worth reading."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from rlhf_rm.data.worth_reading import AMBIGUOUS, FILE, STRONGEST, WEAKEST, read_worth_reading
from rlhf_rm.metrics.names import METRIC_NAMES, with_interval
from rlhf_rm.metrics.reference import REFERENCES
from rlhf_rm.plots import embedding
from rlhf_rm.plots.shifted import shifted_figure
from rlhf_rm.report import figures, numbers
from rlhf_rm.report.inputs import expecting, slug
from rlhf_rm.report.look_for import LOOK_FOR
from rlhf_rm.report.policies import policy_plots, proxy_plots
from rlhf_rm.report.preference import preference_plots
from rlhf_rm.report.runs import TrainedRun
from rlhf_rm.report.section import Fact, Plot, Section, Table, on_axes

KINDS = {
    WEAKEST: "Most wrong: ranked against the label with the greatest confidence",
    AMBIGUOUS: "Most undecided",
    STRONGEST: "Most certain",
}
CURVES = {
    "accuracy": {
        "train/accuracy": "training",
        "val/accuracy": "validation",
        **{f"val/accuracy_{name}": f"validation by {words}" for name, words in REFERENCES.items()},
    },
    "loss": {"train/loss": "training", "val/loss": "validation"},
}
FIRST = ("accuracy", "gold", "reward", "ece", "length_correlation", "length", "perplexity")
COUNTED = {
    "pairs": "pairs",
    "prompts": "prompts",
    "pairs_too_long": "pairs too long",
    "responses_cut": "responses cut",
    "pairs_identical": "pairs identical once cut",
    "mean_shared": "shared tokens of a pair",
    "mean_own_chosen": "tokens of chosen",
    "mean_own_rejected": "tokens of rejected",
}
OF_TRAINING = {"flipped": "labels turned on purpose", "label_noise": "share of labels against gold"}


def section(run: TrainedRun, name: str, prefix: str) -> Section:
    """Everything about one run.

    Args:
        run: which.
        name: of the run or of its group.
        prefix: of the names of its figures.
    """
    with expecting(run.directory / "metrics.json"):
        facts = _facts(run)
        tables = [*_measured(run), *_counted(run.results.get("data", {}))]
        history = run.results.get("history", [])
        if history:
            plots = [*policy_plots(history, prefix), *proxy_plots({name: history}, prefix)]
        else:
            plots = _curves(run, prefix)
    with expecting(run.directory / "figures.json"):
        plots += _drawn(run.drawn, prefix)
    with expecting(run.directory / FILE):
        kept = read_worth_reading(run.directory)
        pairs = [pair for pair in kept if pair.kind != WEAKEST or pair.difference < 0]
    lead = f"{run.directory}: {run.results.get('steps', 0):,} steps"
    speed = run.results.get("examples_per_second")
    lead += f", {speed:,.1f} {run.results['unit']} a second." if speed else "."
    if not run.tested:
        lead += " It was not tested (trainer.limit_test_batches=0)."
    elif "pairs" in run.tested and not run.drawn:
        lead += " It kept no figures.json, so its test has no figures here: evaluate it."
    return Section(f"Run {name}", lead, facts, tables, plots, pairs, KINDS)


def _facts(run: TrainedRun) -> list[Fact]:
    """What one wants to know first."""
    facts = []
    for key in FIRST:
        value, before, interval = (run.tested.get(f"{key}{more}") for more in ("", "_reference", "_ci95"))
        if before is not None:
            note = f"{before:.3f} before"
        else:
            note = f"95 %: {interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
        if value is not None:
            facts.append(Fact(METRIC_NAMES[key], f"{value:.3f}", note))
    for name, words in REFERENCES.items():
        known = run.metrics.get(f"val/accuracy_{name}")
        if known is not None:
            facts.append(Fact(f"accuracy by {words}", f"{known:.3f}", "on the validation split"))
    return facts


def _measured(run: TrainedRun) -> list[Table]:
    rows = []
    for key, label in METRIC_NAMES.items():
        value, interval = run.tested.get(key), run.tested.get(f"{key}_ci95")
        if isinstance(value, Mapping):  # best of n
            value, interval = value["accuracy"], value["accuracy_ci95"]
        if value is not None:
            rows.append([label, f"{value:,}" if isinstance(value, int) else with_interval(value, interval)])
    return [Table(["on the test split", ""], rows)] if rows else []


def _counted(data: Mapping[str, Any]) -> list[Table]:
    """What was read, cut and left out of each split."""
    splits = data.get("encoded", {})
    rows = [
        [label, *(_number(one.get(key)) for one in splits.values())]
        for key, label in COUNTED.items()
        if any(key in one for one in splits.values())
    ]
    rows += [
        [label, *(_number(data[key]) if name == "train" else "" for name in splits)]
        for key, label in OF_TRAINING.items()
        if key in data
    ]
    return [Table(["data", *splits], rows)] if splits and rows else []


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if value < 1 else f"{value:,.1f}"


def _curves(run: TrainedRun, prefix: str) -> list[Plot]:
    plots = []
    for kind, names in CURVES.items():
        found = numbers.lines(run, names)
        if found is not None:
            draw = partial(figures.lines, title=f"{kind.capitalize()} over training")
            plots.append(Plot(f"{prefix}_{kind}_curves", LOOK_FOR[f"{kind}_curves"], found, draw))
    return plots


def _drawn(drawn: Mapping[str, Any], prefix: str) -> list[Plot]:
    """What the run kept in its figures.json, if it kept one."""
    if not drawn:
        return []
    plots = []
    for name, shown in drawn["sets"].items():
        plots += preference_plots(shown, f"{prefix}_{slug(name)}", name)
    for kind, panel in (("responses", embedding.responses), ("differences", embedding.differences)):
        for when, shown in drawn.get("embedding", {}).items():
            draw = on_axes(partial(panel, when=when))
            plots.append(Plot(f"{prefix}_{kind}_{when}", LOOK_FOR[kind], shown, draw))
    if "shifted" in drawn:
        plots.append(Plot(f"{prefix}_shifted", LOOK_FOR["shifted"], drawn["shifted"], shifted_figure))
    return plots
