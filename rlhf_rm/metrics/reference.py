"""What else is known of the labels beside the labels.

Shape legend: B preference pairs.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

# What the labels can be held against, by the names that its metrics end in.
REFERENCES = {"gold": "gold", "gpt4": "GPT-4", "planted": "the data before its planted flips"}


def reference_labels(notes: Mapping[str, NDArray[np.float64]]) -> tuple[str, NDArray[np.float64]] | None:
    """A name, and 1 where the label is right, 0 where it is wrong, NaN where nothing is known, (B,).

    In the synthetic world it is gold (NaN for equal gold), in the published columns of HH the label of
    GPT-4, and where labels were turned on purpose and nothing else is known, which were not.

    Args:
        notes: columns of the pairs by name, (B,); NaN where a pair has none.

    Returns:
        None if nothing is known of any pair.
    """
    if "gold_chosen" in notes and "gold_rejected" in notes:
        difference = notes["gold_chosen"] - notes["gold_rejected"]
        return "gold", np.where(np.isfinite(difference) & (difference != 0), difference > 0, np.nan)
    if "gpt4_label" in notes:
        return "gpt4", notes["gpt4_label"]
    if "flipped" in notes:
        return "planted", 1 - notes["flipped"]
    return None


def reference_accuracy(difference_B: NDArray[np.float64], right_B: NDArray[np.float64]) -> float | None:
    """How often a reward difference has the sign that the reference wants; None without any reference.

    Args:
        difference_B: r(chosen) − r(rejected), (B,); 0 is never right.
        right_B: see :func:`reference_labels`.
    """
    known = np.isfinite(right_B)
    if not known.any():
        return None
    wanted = np.where(right_B[known] > 0.5, 1.0, -1.0)
    return float((difference_B[known] * wanted > 0).mean())
