"""Figures of how a reward model does on one preference set.

Each function returns a figure to save (``figure.savefig("reliability.png")``); no window opens and
no global state of matplotlib is touched. Bars are 95 % Wilson intervals over pairs.

Shape legend: B preference pairs, N bins.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rlhf_rm.metrics.accuracy import correct_pairs, tied_pairs
from rlhf_rm.metrics.calibration import brier_score, reliability
from rlhf_rm.metrics.rewards import Rewards
from rlhf_rm.plots import BLUE, GREY, INK, ORANGE, SIZE, new_figure, note, points, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def preference_figures(rewards: Rewards, name: str) -> dict[str, "Figure"]:
    """Every figure of this page, by its name.

    Args:
        rewards: of a whole split.
        name: of the split, for the titles.
    """
    chosen, rejected = rewards.chosen, rewards.rejected
    return {
        "reliability": reliability_diagram(chosen, rejected, title=f"Reliability on {name}"),
        "margins": reward_margin_histogram(chosen, rejected, title=f"Reward margins on {name}"),
        "length": accuracy_by_length_difference(
            chosen, rejected, rewards.chosen_tokens, rewards.rejected_tokens, title=f"Length bias on {name}"
        ),
    }


def reliability_diagram(chosen_B: Tensor, rejected_B: Tensor, *, title: str) -> "Figure":
    """Accuracy by confidence, against the diagonal of a calibrated model, above the number of pairs.

    Args:
        chosen_B, rejected_B: finite rewards, (B,).
        title: what was measured.
    """
    difference_B = chosen_B.double() - rejected_B.double()
    bins = reliability(difference_B)
    full = bins.pairs > 0
    pairs, confidence, accuracy = bins.pairs[full], bins.confidence[full], bins.accuracy[full]
    figure = new_figure((SIZE[0], 5.6))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    style(top, title)
    style(bottom)
    top.plot([0.5, 1], [0.5, 1], color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), label="calibrated")
    points(top, confidence, accuracy, pairs)
    top.set(ylabel="accuracy", xlim=(0.49, 1.01))
    top.set_ylim(top=1.03)
    error, brier = float(bins.expected_calibration_error), float(brier_score(difference_B))
    note(top, f"expected calibration error {error:.3f}\nBrier score {brier:.3f}", (0.98, 0.05), "right")
    top.legend(loc="upper left", frameon=False)
    left, width = bins.edges[:-1].tolist(), float(bins.edges[1] - bins.edges[0])
    bottom.bar(left, bins.pairs.tolist(), width=width * 0.92, align="edge", color=BLUE, alpha=0.75)
    bottom.set(xlabel="confidence of the model,  max(σ(Δ), 1 − σ(Δ))", ylabel="pairs")
    return figure


def reward_margin_histogram(chosen_B: Tensor, rejected_B: Tensor, *, title: str, bins: int = 60) -> "Figure":
    """How many pairs have which reward difference, coloured by how the model ranks them.

    Args:
        chosen_B, rejected_B: finite rewards, (B,).
        title: what was measured.
        bins: number of bars, at most one more; none spans 0.
    """
    difference_B = chosen_B.double() - rejected_B.double()
    low, high = min(0.0, float(difference_B.min())), max(0.0, float(difference_B.max()))
    width = (high - low) / bins or 1.0
    below, above = -int(low // width), int(high // width) + 1
    edges = [width * i for i in range(-below, above + 1)]
    right_B, tied_B = correct_pairs(chosen_B, rejected_B), tied_pairs(chosen_B, rejected_B)
    parts = [
        (right_B, BLUE, "ranked as labelled"),
        (~right_B & ~tied_B, ORANGE, "ranked against the label"),
        (tied_B, GREY, "tied"),
    ]
    shown = [part for part in parts if part[0].any()]
    figure = new_figure(SIZE)
    axes = figure.subplots()
    style(axes, title)
    axes.hist(
        [difference_B[member_B].tolist() for member_B, _, _ in shown],
        edges,
        stacked=True,
        color=[colour for _, colour, _ in shown],
        label=[label for _, _, label in shown],
        rwidth=0.92,
    )
    axes.axvline(0, color=INK, linewidth=0.8)
    mean = float(difference_B.mean())
    axes.axvline(mean, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), label=f"mean {mean:.2f}")
    axes.set(xlabel="reward of chosen − reward of rejected", ylabel="pairs")
    accuracy, ties = float(right_B.double().mean()), int(tied_B.sum())
    note(axes, f"accuracy {accuracy:.3f}\n{len(chosen_B):,} pairs, {ties:,} ties", (0.98, 0.95), "right")
    axes.legend(loc="upper left", frameon=False)
    axes.margins(y=0.32)  # room for legend and note above the bars
    return figure


def accuracy_by_length_difference(
    chosen_B: Tensor,
    rejected_B: Tensor,
    chosen_tokens_B: Tensor,
    rejected_tokens_B: Tensor,
    *,
    title: str,
    bins: int = 9,
) -> "Figure":
    """Accuracy by how much longer the chosen response is: level without length bias, rising with it.

    Args:
        chosen_B, rejected_B: finite rewards, (B,).
        chosen_tokens_B, rejected_tokens_B: tokens of the responses, (B,).
        title: what was measured.
        bins: number of bins, of equally many pairs as far as equal differences allow.
    """
    longer_B = (chosen_tokens_B - rejected_tokens_B).double().cpu()
    correct_B = correct_pairs(chosen_B, rejected_B).double().cpu()
    inner = torch.quantile(longer_B, torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]).unique()
    _, bin_B = torch.bucketize(longer_B, inner).unique(return_inverse=True)
    pairs = torch.bincount(bin_B).double()
    difference, accuracy = (torch.bincount(bin_B, weights=values) / pairs for values in (longer_B, correct_B))
    figure = new_figure(SIZE)
    axes = figure.subplots()
    style(axes, title)
    axes.axvline(0, color=INK, linewidth=0.8)
    overall = float(correct_B.mean())
    axes.axhline(overall, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), label=f"all pairs {overall:.3f}")
    axes.plot(difference.tolist(), accuracy.tolist(), color=BLUE, linewidth=1.2, alpha=0.5)
    points(axes, difference, accuracy, pairs)
    axes.set(
        xlabel="tokens of chosen − tokens of rejected  (mean of the bin)",
        ylabel="accuracy",
        ylim=(-0.03, 1.03),
    )
    note(axes, "← rejected is longer", (0.02, 0.05), "left")
    note(axes, "chosen is longer →", (0.98, 0.05), "right")
    axes.legend(loc="upper left", frameon=False)
    return figure
