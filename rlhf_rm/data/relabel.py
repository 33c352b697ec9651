"""Label columns of the training pairs, made by a recipe from their strength."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlhf_rm.data.preference_split import LabelColumns, PreferenceSplit
from rlhf_rm.data.strengths import Strengths, published, read_strengths
from rlhf_rm.errors import UserError

log = logging.getLogger(__name__)
PUBLISHED = "published"


class Relabelling:
    """A recipe and the strengths that it reads.

    Args:
        strengths: the directory of a vote, its ``strengths.parquet``, or ``published`` for the columns
            that came with the data.
        recipe: strengths (mean, std, members) and the data's margins to
            :class:`rlhf_rm.denoise.base.Labels`; see :class:`rlhf_rm.denoise.base.Recipe`.

    Attributes:
        of_train: the strengths of the training pairs, in their order, as the data labels them; None
            before they were asked for.

    Raises:
        UserError: there is no such strengths file, it is damaged, or none was named.
    """

    def __init__(self, strengths: str | None, recipe: Callable[..., Any]) -> None:
        if strengths is None:
            raise UserError(
                "denoise=… reads how strong each preference is: add denoise.strengths=DIR, the directory of "
                "a vote (rlhf-rm vote), or denoise.strengths=published where the data has them."
            )
        self.strengths, self.recipe = strengths, recipe
        self.of_train: Strengths | None = None
        # Before anything is encoded, so that a wrong path shows at once.
        self._table = None if strengths == PUBLISHED else read_strengths(Path(strengths))

    def __call__(self, train: PreferenceSplit) -> PreferenceSplit:
        """The same pairs with the recipe's columns; what is left out of them already stays out.

        Raises:
            UserError: a training pair has no strength, or the recipe leaves no pair.
        """
        pair_id = train.column("pair_id")
        if self._table is not None:
            strengths = self._table.joined(pair_id)
        else:
            strengths = published(train.notes, pair_id)
        self.of_train = strengths
        labels = self.recipe(
            torch.from_numpy(strengths.mean),
            torch.from_numpy(strengths.std),
            torch.from_numpy(strengths.members_MB),
            torch.from_numpy(train.labels.margin),
        )
        columns = LabelColumns(
            swap=labels.swap.numpy(),
            target=labels.target.float().numpy(),
            margin=labels.margin.float().numpy(),
            weight=labels.weight.float().numpy(),
            keep=labels.trained_on.numpy() & train.labels.keep,
        )
        told = summary(columns)
        log.info(
            "train: %d pairs kept of %d, %d flipped; mean target %.3f, margin %.3f, weight %.3f",
            told["kept"],
            len(train),
            told["flipped"],
            told["mean_target"],
            told["mean_margin"],
            told["mean_weight"],
        )
        return train.relabelled(columns)


def summary(labels: LabelColumns) -> dict[str, Any]:
    """What a recipe did: pairs kept and flipped, and the means of the columns over the pairs kept."""
    keep = labels.keep
    return {
        "kept": int(keep.sum()),
        "flipped": int((labels.swap & keep).sum()),
        **{
            f"mean_{name}": float(np.mean(getattr(labels, name)[keep]))
            for name in ("target", "margin", "weight")
        },
    }
