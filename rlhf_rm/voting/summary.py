"""What the strengths of a set say, and how well they find wrong labels where those are known.

Shape legend: M members, B preference pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import binary_auroc

from rlhf_rm.data.strengths import Strengths
from rlhf_rm.data.types import PreferencePair
from rlhf_rm.metrics.reference import REFERENCES, reference_labels
from rlhf_rm.metrics.strength import accuracy_by_strength

QUANTILES = (5, 10, 20, 25, 30, 50, 75, 90, 100)  # as the paper prints them, in per cent
SIZES = (1, 2, 5, 10, 20, 50)  # of ensembles


def notes_of(pairs: Sequence[PreferencePair]) -> dict[str, NDArray[np.float64]]:
    """The notes of pairs by name, (B,) each; NaN where a pair has none."""
    rows = [pair.notes for pair in pairs]  # once: each pair may be read from the disk
    names = sorted({name for notes in rows for name in notes})
    return {name: np.array([notes.get(name, np.nan) for notes in rows]) for name in names}


def summarise(strengths: Strengths, notes: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """The numbers of a vote.

    Args:
        strengths: of the pairs, in the order of the notes.
        notes: see :func:`notes_of` and :func:`~rlhf_rm.metrics.reference.reference_labels`; ``flipped``
            tells planted flips from other wrong labels.

    Returns:
        ``pairs``, ``negative`` (share of pairs with a mean below 0), ``quantiles`` of the mean (per cent
        to reward units), ``mean_std``; with a reference ``agreement`` (see :func:`agreement`) and
        ``wrong_labels`` (see :func:`wrong_labels`).
    """
    mean = strengths.mean
    result: dict[str, Any] = {
        "pairs": len(strengths),
        "negative": float((mean < 0).mean()),
        "quantiles": {str(q): float(np.quantile(mean, q / 100)) for q in QUANTILES},
        "mean_std": float(strengths.std.mean()),
    }
    known = reference_labels(notes)
    if known is not None:
        name, right = known
        result["reference"] = REFERENCES[name]
        result["agreement"] = agreement(mean, right)
        result["wrong_labels"] = wrong_labels(strengths, right, notes.get("flipped"))
    return result


def agreement(mean: NDArray[np.float64], right: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Share of labels that the reference calls right, by tenth of strength, the weakest first.

    Args:
        mean: strengths, (B,).
        right: 1, 0, or NaN where the reference is silent, (B,); those pairs are left out.
    """
    known = np.isfinite(right)
    bins = accuracy_by_strength(torch.from_numpy(right[known] == 1), torch.from_numpy(mean[known]))
    return [{"strengths": one.strengths, "pairs": one.pairs, "agreement": one.accuracy} for one in bins]


def wrong_labels(
    strengths: Strengths, right: NDArray[np.float64], flipped: NDArray[np.float64] | None
) -> dict[str, Any]:
    """How well weakness finds the labels that the reference calls wrong.

    Args:
        strengths: of the pairs.
        right: see :func:`agreement`.
        flipped: 1 where the label was turned on purpose, (B,); None if nobody did.

    Returns:
        ``share`` of wrong labels; ``auroc`` of −mean; ``precision_lowest_tenth``, the share of wrong
        labels among the weakest tenth; ``auroc_flipped`` and ``auroc_other``, of planted flips and of
        other wrong labels, each against right labels; ``auroc_by_members``, the mean over members, or
        over neighbouring groups of them, for each smaller ensemble. None where there is nothing to tell
        apart.
    """
    known = np.isfinite(right)
    wrong = right[known] == 0
    weakness = -strengths.mean[known]
    lowest = np.argsort(-weakness, kind="stable")[: max(1, len(weakness) // 10)]
    result: dict[str, Any] = {
        "pairs": len(wrong),
        "share": float(wrong.mean()) if len(wrong) else None,
        "auroc": auroc(weakness, wrong),
        "precision_lowest_tenth": float(wrong[lowest].mean()) if len(wrong) else None,
    }
    if flipped is not None and (flipped[known] == 1).any():
        planted = flipped[known] == 1
        for name, those in (("flipped", wrong & planted), ("other", wrong & ~planted)):
            some = those | ~wrong
            result[f"auroc_{name}"] = auroc(weakness[some], those[some])
    members = strengths.members_MB[:, known]
    result["auroc_by_members"] = {
        str(size): _mean_auroc(members, size, wrong) for size in SIZES if size <= len(members)
    }
    return result


def auroc(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve, (B,) each; None unless there are both kinds. Equal scores count half."""
    if positive.all() or not positive.any():
        return None
    # Ranks, since torchmetrics would squash scores outside [0, 1] through a sigmoid, and saturate.
    ranks = np.unique(score, return_inverse=True)[1] / max(1, len(score))
    return float(binary_auroc(torch.from_numpy(ranks), torch.from_numpy(positive.astype(np.int64))))


def _mean_auroc(members_MB: NDArray[np.float64], size: int, wrong: NDArray[np.bool_]) -> float | None:
    groups = [members_MB[at : at + size] for at in range(0, len(members_MB) - size + 1, size)]
    found = [auroc(-group.mean(0), wrong) for group in groups]
    return None if None in found else float(np.mean([one for one in found if one is not None]))
