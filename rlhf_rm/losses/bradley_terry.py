"""Bradley–Terry with soft labels and adaptive margins."""

from torch import Tensor

from rlhf_rm.functional.preference import bradley_terry
from rlhf_rm.losses.base import PreferenceLoss


class BradleyTerryLoss(PreferenceLoss):
    """:func:`rlhf_rm.functional.preference.bradley_terry` as a module."""

    reads_margin = True
    reads_target = True

    def forward(
        self, chosen_B: Tensor, rejected_B: Tensor, *, margin_B: Tensor | None, target_B: Tensor | None
    ) -> Tensor:
        """Loss of each pair, (B,), in nats; see :class:`PreferenceLoss`."""
        return bradley_terry(chosen_B, rejected_B, margin_B=margin_B, target_B=target_B)
