"""Preference pairs whose labels are changed by their strength."""

from typing import Any

from rlhf_rm.data.preference import PreferenceDataModule
from rlhf_rm.data.strengths import Strengths
from rlhf_rm.errors import UserError


class DenoisedDataModule(PreferenceDataModule):
    """As :class:`PreferenceDataModule`, insisting on a recipe and the strengths that it reads.

    Raises:
        UserError: there is none.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refuse_no_recipe(self.relabelling)

    @property
    def train_strengths(self) -> Strengths:
        """The strengths of the training pairs, in their order, as the data labels them."""
        self.split("train")
        assert self.relabelling is not None and self.relabelling.of_train is not None
        return self.relabelling.of_train


def refuse_no_recipe(recipe: Any) -> None:
    """Refuse a module without a recipe; also asked before anything is made that a module needs.

    Raises:
        UserError: it is None.
    """
    if recipe is None:
        raise UserError(
            "method=denoised needs a recipe: add denoise=flip (or soft, margin, drop, …) and "
            "denoise.strengths=DIR."
        )
