"""The loss module: the contract that training relies on."""

import pytest
import torch

from rlhf_rm.functional.preference import bradley_terry
from rlhf_rm.losses.base import PreferenceLoss
from rlhf_rm.losses.bradley_terry import BradleyTerryLoss


def test_is_the_function_unreduced() -> None:
    chosen, rejected, margin = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    target = torch.linspace(0, 1, 7)
    loss = BradleyTerryLoss()(chosen, rejected, margin_B=margin, target_B=target)
    assert loss.shape == (7,)
    assert torch.equal(loss, bradley_terry(chosen, rejected, margin_B=margin, target_B=target))


@pytest.mark.parametrize("column", ["margin", "target"])
def test_reads_the_columns_that_it_says_it_reads(column: str) -> None:
    loss = BradleyTerryLoss()
    columns = {"margin_B": torch.zeros(2), "target_B": torch.ones(2)}
    changed = columns | {f"{column}_B": torch.full((2,), 0.3)}
    rewards = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 3.0])
    assert getattr(loss, f"reads_{column}")
    assert not torch.equal(loss(*rewards, **columns), loss(*rewards, **changed))


def test_a_loss_must_say_how_it_is_computed() -> None:
    class Nothing(PreferenceLoss):
        reads_margin = reads_target = False

    with pytest.raises(TypeError, match="forward"):
        Nothing()
