"""What became of a policy in the course of PPO, by iteration."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlhf_rm.plots.style import BLUE, GREEN, GREY, INK, ORANGE, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, Any]]
Line = tuple[str, str, str]  # a name in the history, a label, a colour
# What is drawn, in panels whose lines share an axis.
PANELS: Mapping[str, Sequence[Line]] = {
    "reward": (("reward", "reward model", BLUE), ("gold", "gold", ORANGE)),
    "kl": (("kl", "nats from the reference", GREEN),),
    "length": (("length", "tokens of a response", GREY),),
    "explained_variance": (("explained_variance", "explained variance of the critic", BLUE),),
}


def policy_curves(history: History) -> "Figure":
    """Reward, gold where it is known, divergence, length and the critic, by iteration.

    Args:
        history: of a policy's training.
    """
    figure = new_figure((9.2, 6.4))
    for axes, name in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        panel(axes, history, name)
    return figure


def panel(axes: "Axes", history: History, name: str) -> None:
    """One panel of :data:`PANELS` over the steps of training."""
    known = [line for line in PANELS[name] if line[0] in history[0]]
    style(axes, " and ".join(label for _, label, _ in known))
    steps = [one["step"] for one in history]
    for key, label, colour in known:
        axes.plot(steps, [one[key] for one in history], color=colour, linewidth=1.4, label=label)
    axes.set_xlabel("step")
    if len(known) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
