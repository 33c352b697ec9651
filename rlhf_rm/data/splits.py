"""Splits by a hash of the prompt: the same prompt is always on the same side, on every machine."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlhf_rm.errors import UserError


def check_fractions(validation_fraction: float, test_fraction: float) -> None:
    """Refuse fractions that leave nothing to train on.

    Raises:
        UserError: a fraction below 0, or both together 1 or more.
    """
    if min(validation_fraction, test_fraction) < 0 or not validation_fraction + test_fraction < 1:
        raise UserError(
            f"validation_fraction={validation_fraction} and test_fraction={test_fraction} must be at least 0 "
            "and together less than 1."
        )


def assign_split(prompt_id: str, *, validation_fraction: float, test_fraction: float, split_seed: int) -> str:
    """``train``, ``validation`` or ``test``, from a hash of the prompt and the seed alone.

    The first 64 bits of SHA-256 are a number in [0, 1): the lowest go to ``test``, the next to
    ``validation``. So the test split does not change with ``validation_fraction``.
    """
    digest = hashlib.sha256(f"{split_seed}:{prompt_id}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < test_fraction:
        return "test"
    if position < test_fraction + validation_fraction:
        return "validation"
    return "train"


def fold_of(prompt_ids: Sequence[str], folds: int) -> NDArray[np.int64]:
    """Which of ``folds`` parts each pair is in, (B,), by its prompt: the same on every machine.

    Taken from another hash than :func:`assign_split`'s, so that each split has pairs of every fold.

    Args:
        prompt_ids: see :attr:`~rlhf_rm.data.types.PreferencePair.prompt_id`.
        folds: how many, at least 1.
    """
    digests = (hashlib.sha256(f"fold:{prompt}".encode()).digest() for prompt in prompt_ids)
    return np.array([int.from_bytes(digest[:8], "big") % folds for digest in digests], np.int64)
