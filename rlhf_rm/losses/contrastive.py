"""What every contrastive loss is."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from rlhf_rm.errors import UserError
from rlhf_rm.functional.contrastive import difference_items, pair_items

# A tensor of this rank to the tensors of all ranks, one below the other, with gradients.
Gather = Callable[[Tensor], Tensor]
ITEMS = {"pairs": pair_items, "difference": difference_items}


class ContrastiveLoss(nn.Module, ABC):
    """A loss of two views of the same items, item by item; subclass it for one of your own.

    Args:
        items: what is contrasted: ``pairs`` (the states of chosen and rejected responses) or
            ``difference`` (chosen − rejected, and its opposite).

    Raises:
        UserError: ``items`` is neither.

    Attributes:
        passes: methods beside ``forward`` that read its weights.
    """

    passes: ClassVar[tuple[str, ...]] = ("measures",)

    def __init__(self, items: str) -> None:
        super().__init__()
        if items not in ITEMS:
            raise UserError(f"contrastive.loss.items={items} is unknown: use one of {', '.join(ITEMS)}.")
        self.items_of = ITEMS[items]

    @abstractmethod
    def forward(self, first_ND: Tensor, second_ND: Tensor, *, gather: Gather, begin: int) -> Tensor:
        """Loss of each item of this rank, (N,), in nats; the items of all ranks are its batch.

        Args:
            first_ND, second_ND: two views of the same items.
            gather: brings together the items of all ranks.
            begin: how many items of other ranks lie before these, once they are gathered.
        """

    def before_step(self) -> None:
        """Whatever has to hold before each step."""

    def measures(self, first_ND: Tensor) -> dict[str, Tensor]:
        """Numbers of its own to log of one view of the items."""
        return {}


def check_temperature(name: str, value: float) -> None:
    """Refuse what nothing can be divided by."""
    if not value > 0:
        raise UserError(f"contrastive.loss.{name}={value} must be above 0.")
