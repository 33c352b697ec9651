"""What figures of one preference set show, as numbers that JSON holds.

Shape legend: B preference pairs.
"""

from typing import Any

import torch
from torch import Tensor

from rlhf_rm.metrics.accuracy import correct_pairs, tied_pairs
from rlhf_rm.metrics.calibration import brier_score, reliability
from rlhf_rm.metrics.rewards import Rewards

Drawn = dict[str, Any]


def drawn(rewards: Rewards) -> dict[str, Drawn]:
    """``reliability``, ``margins`` and ``length`` of a whole split: see the functions of this page."""
    chosen, rejected = rewards.chosen, rewards.rejected
    return {
        "reliability": reliability_bins(chosen, rejected),
        "margins": margin_histogram(chosen, rejected),
        "length": accuracy_by_length(chosen, rejected, rewards.chosen_tokens, rewards.rejected_tokens),
    }


def reliability_bins(chosen_B: Tensor, rejected_B: Tensor) -> Drawn:
    """Accuracy by confidence.

    Args:
        chosen_B, rejected_B: finite rewards, (B,).

    Returns:
        ``ece``, ``brier``, and ``bins``, those that are not empty: ``from`` and ``to`` (confidences),
        ``pairs``, ``confidence`` (mean) and ``accuracy`` (a tie is half right).
    """
    difference_B = chosen_B.double() - rejected_B.double()
    found = reliability(difference_B)
    rows = zip(found.edges[:-1], found.edges[1:], found.pairs, found.confidence, found.accuracy, strict=True)
    names = ("from", "to", "pairs", "confidence", "accuracy")
    bins = [dict(zip(names, [float(value) for value in row], strict=True)) for row in rows if row[2] > 0]
    return {
        "ece": float(found.expected_calibration_error),
        "brier": float(brier_score(difference_B)),
        "bins": [one | {"pairs": int(one["pairs"])} for one in bins],
    }


def margin_histogram(chosen_B: Tensor, rejected_B: Tensor, bins: int = 60) -> Drawn:
    """How many pairs have which reward difference.

    Args:
        chosen_B, rejected_B: finite rewards, (B,).
        bins: number of bins, at most one more; none spans 0.

    Returns:
        ``edges`` of the bins, the ``right``, ``wrong`` and ``tied`` pairs in each, and of all pairs
        ``mean``, ``accuracy``, ``pairs`` and ``ties``.
    """
    difference_B = chosen_B.double().cpu() - rejected_B.double().cpu()
    low, high = min(0.0, float(difference_B.min())), max(0.0, float(difference_B.max()))
    width = (high - low) / bins or 1.0
    below, above = -int(low // width), int(high // width) + 1
    # By their number, so that rounding puts no pair on the wrong side of 0.
    bin_B = (difference_B / width).floor().long().clamp(-below, above - 1) + below
    right_B, tied_B = correct_pairs(chosen_B, rejected_B).cpu(), tied_pairs(chosen_B, rejected_B).cpu()
    parts = {"right": right_B, "wrong": ~right_B & ~tied_B, "tied": tied_B}
    return {
        "edges": [width * i for i in range(-below, above + 1)],
        **{
            name: torch.bincount(bin_B[part_B], minlength=below + above).tolist()
            for name, part_B in parts.items()
        },
        "mean": float(difference_B.mean()),
        "accuracy": float(right_B.double().mean()),
        "pairs": len(difference_B),
        "ties": int(tied_B.sum()),
    }


def accuracy_by_length(
    chosen_B: Tensor, rejected_B: Tensor, chosen_tokens_B: Tensor, rejected_tokens_B: Tensor, bins: int = 9
) -> Drawn:
    """Accuracy by how much longer the chosen response is.

    Args:
        chosen_B, rejected_B: finite rewards, (B,).
        chosen_tokens_B, rejected_tokens_B: tokens of the responses, (B,).
        bins: number of bins, of equally many pairs as far as equal differences allow.

    Returns:
        ``accuracy`` of all pairs, and ``bins``, each with ``difference`` (mean, in tokens), ``pairs`` and
        ``accuracy``.
    """
    longer_B = (chosen_tokens_B - rejected_tokens_B).double().cpu()
    correct_B = correct_pairs(chosen_B, rejected_B).double().cpu()
    inner = torch.quantile(longer_B, torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]).unique()
    _, bin_B = torch.bucketize(longer_B, inner).unique(return_inverse=True)
    pairs = torch.bincount(bin_B)
    difference, accuracy = (torch.bincount(bin_B, weights=values) / pairs for values in (longer_B, correct_B))
    rows = zip(difference.tolist(), pairs.tolist(), accuracy.tolist(), strict=True)
    return {
        "accuracy": float(correct_B.mean()),
        "bins": [dict(zip(("difference", "pairs", "accuracy"), row, strict=True)) for row in rows],
    }
