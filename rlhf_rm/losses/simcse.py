"""SimCSE: an item finds its other view among all items."""

import torch
from torch import Tensor

from rlhf_rm.functional.contrastive import info_nce
from rlhf_rm.losses.contrastive import ContrastiveLoss, Gather, check_temperature


class SimCSELoss(ContrastiveLoss):
    """:func:`rlhf_rm.functional.contrastive.info_nce`, with the items of the whole step as negatives.

    Args:
        hidden_size: D; not needed here.
        items: see :class:`ContrastiveLoss`.
        temperature: τ; the smaller, the more the nearest negatives count.

    Raises:
        UserError: a temperature of 0 or less.
    """

    def __init__(self, hidden_size: int, *, items: str, temperature: float) -> None:
        super().__init__(items)
        check_temperature("temperature", temperature)
        self.temperature = temperature

    def forward(self, first_ND: Tensor, second_ND: Tensor, *, gather: Gather, begin: int) -> Tensor:
        """See :class:`ContrastiveLoss`."""
        own_N = torch.arange(len(first_ND), device=first_ND.device) + begin
        return info_nce(first_ND, gather(second_ND), own_N, temperature=self.temperature)
