"""Reward models trained on denoised labels, watched by the strength of the preferences."""

from typing import Any

import torch
from torch import Tensor

from rlhf_rm.data.batch import PairBatch, Step
from rlhf_rm.data.denoised import DenoisedDataModule
from rlhf_rm.errors import UserError
from rlhf_rm.methods.reward import RewardModule
from rlhf_rm.metrics.strength import BINS, strength_bins


class DenoisedRewardModule(RewardModule):
    """As :class:`RewardModule`, on a :class:`DenoisedDataModule`, logging accuracy by strength.

    ``train/accuracy_by_strength/01`` (the weakest tenth) to ``…/10`` are the accuracies on the training
    pairs since the last validation, against the labels as the data has them: what the recipe flips it
    hopes to see fall. Source: paper, section 2.2.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._right_N = torch.zeros(BINS)
        self._pairs_N = torch.zeros(BINS)
        self._bin_B = torch.zeros(0, dtype=torch.long)
        self._swap_B = torch.zeros(0, dtype=torch.bool)

    def on_fit_start(self) -> None:
        """Sort the training pairs into bins of strength.

        Raises:
            UserError: the data module has no strengths.
        """
        datamodule = self._datamodule
        if not isinstance(datamodule, DenoisedDataModule):
            raise UserError(
                f"DenoisedRewardModule reads strengths, which {type(datamodule).__name__} has not: use a "
                "DenoisedDataModule."
            )
        super().on_fit_start()
        self._bin_B = strength_bins(torch.from_numpy(datamodule.train_strengths.mean))
        self._swap_B = torch.from_numpy(datamodule.split("train").labels.swap)

    def log_differences(self, step: Step[PairBatch], difference_B: Tensor) -> None:
        """As in the base class, and by strength."""
        super().log_differences(step, difference_B)
        index_B = torch.cat([pairs.index_B for pairs in step]).cpu()
        right_B = ranked_right(difference_B.cpu(), self._swap_B[index_B]).float()
        self._right_N.index_add_(0, self._bin_B[index_B], right_B)
        self._pairs_N.index_add_(0, self._bin_B[index_B], torch.ones_like(right_B))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As in the base class, and keep what was counted since the last validation."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["by_strength"] = self._counted()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back, all of it on one rank, since the counts of all are added up."""
        super().on_load_checkpoint(checkpoint)
        counted = checkpoint.get("by_strength")
        if counted is not None and self.global_rank == 0:
            self._right_N, self._pairs_N = counted.clone()

    def _counted(self) -> Tensor:
        """Pairs that were ranked right, and all pairs, by strength and over all ranks, (2, bins)."""
        return self.sum_over_ranks(torch.stack([self._right_N, self._pairs_N]).to(self.device)).cpu()

    def on_validation_epoch_end(self) -> None:
        """As in the base class, and the accuracies by strength of the training since the last time."""
        super().on_validation_epoch_end()
        for i, (right, pairs) in enumerate(self._counted().T.tolist()):
            if pairs:
                self.log(f"train/accuracy_by_strength/{i + 1:02d}", right / pairs)
        self._right_N.zero_()
        self._pairs_N.zero_()


def ranked_right(difference_B: Tensor, swap_B: Tensor) -> Tensor:
    """Whether each pair is ranked as its own label says, (B,), a tie being wrong.

    Args:
        difference_B: reward of what is trained as chosen less that of the other, (B,).
        swap_B: whether chosen and rejected have changed places, (B,).
    """
    return torch.where(swap_B, difference_B < 0, difference_B > 0)
