"""Plots of what became of a policy in PPO, for runs and for rounds."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rlhf_rm.plots import policy
from rlhf_rm.report.figures import gold_against_proxy
from rlhf_rm.report.look_for import LOOK_FOR
from rlhf_rm.report.numbers import running_mean, thinned
from rlhf_rm.report.section import Plot, on_axes

History = Sequence[Mapping[str, Any]]  # iterations of PPO
AIDS = {"length": "response_length"}  # where a panel's sentence has another name


def policy_plots(history: History, prefix: str) -> list[Plot]:
    """The panels over training, each as a plot of its own.

    Args:
        history: of one policy.
        prefix: of the names of the plots.
    """
    plots = []
    for name, panel in policy.PANELS.items():
        keys = [key for key, _, _ in panel if key in history[0]]
        shown = [{key: one[key] for key in ("step", *keys)} for one in history]
        draw = on_axes(partial(policy.panel, name=name))
        plots.append(Plot(f"{prefix}_{name}", LOOK_FOR[AIDS.get(name, name)], shown, draw))
    return plots


def proxy_plots(histories: Mapping[str, History], prefix: str) -> list[Plot]:
    """Gold against the reward model's score in the course of PPO; nothing where gold is not known.

    Args:
        histories: by the name of their line.
        prefix: of the name of the plot.
    """
    lines = []
    for name, history in histories.items():
        if history and "gold" in history[0]:
            window = max(1, len(history) // 10)
            means = {key: running_mean([one[key] for one in history], window) for key in ("reward", "gold")}
            lines.append({"name": name, **{key: thinned(values) for key, values in means.items()}})
    name = f"{prefix}_gold_against_proxy"
    numbers = {"lines": lines}
    return [Plot(name, LOOK_FOR["gold_against_proxy"], numbers, gold_against_proxy)] if lines else []
