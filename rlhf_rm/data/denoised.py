"""Preference pairs whose labels a recipe changes by their strength."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlhf_rm.data.preference import PreferenceDataModule
from rlhf_rm.data.preference_split import LabelColumns, PreferenceSplit
from rlhf_rm.data.strengths import Strengths, published, read_strengths
from rlhf_rm.errors import UserError

log = logging.getLogger(__name__)
PUBLISHED = "published"


class DenoisedDataModule(PreferenceDataModule):
    """As :class:`PreferenceDataModule`, with the label columns of the training pairs made by a recipe.

    Only training pairs are changed: what is measured is measured on the labels as they are.

    Args:
        strengths: the directory of a vote, its ``strengths.parquet``, or ``published`` for the columns
            that came with the data.
        recipe: strengths (mean, std, members) and the data's margins to label columns; see
            :class:`rlhf_rm.denoise.base.Recipe`.
    """

    def __init__(self, *args: Any, strengths: str, recipe: Callable[..., Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.strengths_from, self.recipe = strengths, recipe
        self._strengths: Strengths | None = None
        self._relabelled: PreferenceSplit | None = None
        # Before anything is encoded, so that a wrong path shows at once.
        self._table = None if strengths == PUBLISHED else read_strengths(Path(strengths))

    def split(self, name: str) -> PreferenceSplit:
        """As in the base class; of the training split, with the columns of the recipe.

        Raises:
            UserError: a training pair has no strength, or the recipe leaves no pair.
        """
        if name != "train":
            return super().split(name)
        if self._relabelled is None:
            self._relabelled = self._relabel(super().split(name))
        return self._relabelled

    @property
    def train_strengths(self) -> Strengths:
        """The strengths of the training pairs, in their order, as the data labels them."""
        self.split("train")
        assert self._strengths is not None
        return self._strengths

    def report(self) -> dict[str, Any]:
        """As in the base class, with what the recipe did."""
        report = super().report()
        if self._relabelled is not None:
            report["denoise"] = {"strengths": self.strengths_from} | summary(self._relabelled.labels)
        return report

    def _relabel(self, train: PreferenceSplit) -> PreferenceSplit:
        pair_id = train.column("pair_id")
        if self._table is not None:
            strengths = self._table.joined(pair_id)
        else:
            strengths = published(train.notes, pair_id)
        self._strengths = strengths
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
            keep=(labels.keep & (labels.weight > 0)).numpy() & train.labels.keep,
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
        if told["kept"] < len(train) and told["kept"] < self.batch_size:
            raise UserError(
                f"the recipe leaves {told['kept']} pairs, fewer than one step takes ({self.batch_size}): "
                "let it keep more, or lower loader.batch_size."
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
