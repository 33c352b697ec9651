"""Preference pairs, each in two views."""

from collections.abc import Sequence
from typing import Any

from rlhf_rm.data.batch import PairBatch, Step
from rlhf_rm.data.preference import PreferenceDataModule


class ContrastiveDataModule(PreferenceDataModule):
    """As :class:`PreferenceDataModule`; a training step has every pair twice, for dropout to tell apart.

    Source: paper, section 3.

    Args:
        share_prefix: store a prompt once for both views, so that they also share the dropout of its tokens;
            fewer tokens, and less different views.
    """

    def __init__(self, *args: Any, share_prefix: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.share_prefix = share_prefix

    def train_step(self, indices: Sequence[int]) -> Step[PairBatch]:
        """The micro-batches of one training step with two views of each of these examples."""
        train = self.split("train")
        return train.step(indices, copies=2) if self.share_prefix else train.step([*indices, *indices])
