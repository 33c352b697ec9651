"""SwAV: each view predicts to which prototypes the other one belongs."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlhf_rm.errors import UserError
from rlhf_rm.functional.contrastive import clusters_used, prototype_cosines, sinkhorn, swapped_prediction
from rlhf_rm.losses.contrastive import ContrastiveLoss, Gather, check_temperature


class SwAVLoss(ContrastiveLoss):
    """:func:`rlhf_rm.functional.contrastive.swapped_prediction`, with codes over the whole step.

    Args:
        hidden_size: D.
        items: see :class:`ContrastiveLoss`.
        prototypes: K, how many are learnt.
        temperature: τ of the prediction.
        epsilon: ε of the codes; the smaller, the harder they are.
        iterations: of Sinkhorn–Knopp.

    Raises:
        UserError: a setting out of its range.
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        items: str,
        prototypes: int,
        temperature: float,
        epsilon: float,
        iterations: int,
    ) -> None:
        super().__init__(items)
        check_temperature("temperature", temperature)
        check_temperature("epsilon", epsilon)
        if prototypes < 2 or iterations < 1:
            raise UserError(
                f"contrastive.loss.prototypes={prototypes} must be at least 2 and "
                f"contrastive.loss.iterations={iterations} at least 1."
            )
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.prototype_KD = nn.Parameter(F.normalize(torch.randn(prototypes, hidden_size), dim=1))

    @torch.no_grad()
    def before_step(self) -> None:
        """Put the prototypes back on the unit sphere."""
        self.prototype_KD.copy_(F.normalize(self.prototype_KD, dim=1))

    def forward(self, first_ND: Tensor, second_ND: Tensor, *, gather: Gather, begin: int) -> Tensor:
        """See :class:`ContrastiveLoss`."""
        first_NK, second_NK = (prototype_cosines(one, self.prototype_KD) for one in (first_ND, second_ND))
        own = slice(begin, begin + len(first_ND))
        codes = [self._codes(gather(one.detach()))[own] for one in (first_NK, second_NK)]
        return swapped_prediction(first_NK, second_NK, *codes, temperature=self.temperature)

    def measures(self, first_ND: Tensor) -> dict[str, Tensor]:
        """``clusters``: how many prototypes the items are nearest to, as a perplexity."""
        nearest_N = prototype_cosines(first_ND, self.prototype_KD).argmax(1)
        return {"clusters": clusters_used(F.one_hot(nearest_N, len(self.prototype_KD)).float())}

    def _codes(self, score_MK: Tensor) -> Tensor:
        return sinkhorn(score_MK, epsilon=self.epsilon, iterations=self.iterations)
