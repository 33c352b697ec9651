"""The pairwise loss: closed form, limits, symmetry, gradients, extremes, half precision."""

import math

import pytest
import torch
from torch import Tensor

from rlhf_rm.errors import UserError
from rlhf_rm.functional.preference import bradley_terry, weighted_mean


def rewards(count: int = 64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Chosen and rejected rewards, margins and targets, drawn once and for all."""
    generator = torch.Generator().manual_seed(0)
    chosen, rejected, margin = torch.randn(3, count, generator=generator, dtype=torch.float64) * 3
    target = torch.rand(count, generator=generator, dtype=torch.float64)
    return chosen, rejected, margin, target


def test_closed_form() -> None:
    chosen, rejected = torch.tensor([0.0, 2.0, 1.0]).double(), torch.tensor([0.0, 0.0, 2.5]).double()
    expected = [math.log(2), math.log(1 + math.exp(-2)), math.log(1 + math.exp(1.5))]
    assert torch.allclose(bradley_terry(chosen, rejected), torch.tensor(expected).double(), atol=1e-12)


def test_soft_label_and_margin_as_in_the_paper() -> None:
    chosen, rejected, margin, _ = rewards()
    probability = torch.sigmoid(chosen - rejected)
    alpha = 0.2
    soft = -((1 - alpha) * probability.log() + alpha * (1 - probability).log())
    target = torch.full_like(chosen, 1 - alpha)
    assert torch.allclose(bradley_terry(chosen, rejected, target_B=target), soft, atol=1e-9)
    with_margin = -torch.sigmoid(chosen - rejected - margin).log()
    assert torch.allclose(bradley_terry(chosen, rejected, margin_B=margin), with_margin, atol=1e-9)


def test_margin_0_and_target_1_are_bradley_terry() -> None:
    chosen, rejected, _, _ = rewards()
    plain = bradley_terry(chosen, rejected)
    zero, one = torch.zeros_like(chosen), torch.ones_like(chosen)
    assert torch.equal(bradley_terry(chosen, rejected, margin_B=zero), plain)
    assert torch.allclose(bradley_terry(chosen, rejected, margin_B=zero, target_B=one), plain, atol=1e-15)


def test_swapping_the_responses_is_flipping_the_label() -> None:
    chosen, rejected, margin, target = rewards()
    loss = bradley_terry(chosen, rejected, margin_B=margin, target_B=target)
    swapped = bradley_terry(rejected, chosen, margin_B=-margin, target_B=1 - target)
    assert torch.allclose(loss, swapped, atol=1e-12)
    assert not torch.allclose(loss, bradley_terry(rejected, chosen, margin_B=margin, target_B=1 - target))


def test_target_one_half_is_least_where_the_rewards_are_equal() -> None:
    difference = torch.tensor([-1.0, -0.1, 0.0, 0.1, 1.0])
    loss = bradley_terry(difference, torch.zeros(5), target_B=torch.full((5,), 0.5))
    assert loss.argmin() == 2
    assert torch.allclose(loss, loss.flip(0))


def test_least_at_the_log_odds_of_the_target_past_the_margin() -> None:
    chosen = torch.tensor([math.log(4) + 0.7], dtype=torch.float64, requires_grad=True)
    loss = bradley_terry(
        chosen,
        torch.zeros_like(chosen),
        margin_B=torch.tensor([0.7], dtype=torch.float64),
        target_B=torch.tensor([0.8], dtype=torch.float64),
    )
    (gradient,) = torch.autograd.grad(loss.sum(), chosen)
    assert abs(gradient.item()) < 1e-12


def test_gradcheck() -> None:
    inputs = tuple(column.requires_grad_() for column in rewards(8))

    def loss(chosen: Tensor, rejected: Tensor, margin: Tensor, target: Tensor) -> Tensor:
        return bradley_terry(chosen, rejected, margin_B=margin, target_B=target)

    assert torch.autograd.gradcheck(loss, inputs)
    assert torch.autograd.gradcheck(bradley_terry, inputs[:2])


@pytest.mark.parametrize("target", [None, 1.0, 0.8, 0.0])
def test_extreme_rewards_have_finite_loss_and_gradient(target: float | None) -> None:
    chosen = torch.tensor([1e4, -1e4], requires_grad=True)
    target_B = None if target is None else torch.full((2,), target)
    loss = bradley_terry(chosen, torch.zeros(2), target_B=target_B)
    share = 1.0 if target is None else target
    assert torch.allclose(loss, torch.tensor([1e4 * (1 - share), 1e4 * share]))
    (gradient,) = torch.autograd.grad(loss.sum(), chosen)
    assert torch.allclose(gradient, torch.tensor([1 - share, -share]))


def test_small_losses_keep_their_digits() -> None:
    loss = bradley_terry(torch.tensor([30.0]), torch.tensor([0.0]))
    assert math.isclose(loss.item(), math.exp(-30), rel_tol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_before_the_subtraction(dtype: torch.dtype) -> None:
    # 8.0 - 0.01 is 8.0 in bfloat16, so that the loss would be that of 8.0.
    chosen, rejected = torch.tensor([8.0], dtype=dtype), torch.tensor([0.01], dtype=dtype)
    loss = bradley_terry(chosen, rejected)
    assert loss.dtype is torch.float32
    assert torch.equal(loss, bradley_terry(chosen.float(), rejected.float()))
    assert not torch.equal(loss, bradley_terry(chosen.float(), torch.zeros(1)))


def test_columns_do_not_narrow_the_loss() -> None:
    chosen, rejected, margin, target = rewards()
    half = {"margin_B": margin.bfloat16(), "target_B": target.bfloat16()}
    assert bradley_terry(chosen, rejected, **half).dtype is torch.float64
    assert bradley_terry(chosen.bfloat16(), rejected.bfloat16(), **half).dtype is torch.float32


@pytest.mark.parametrize("name", ["rejected_B", "margin_B", "target_B"])
def test_a_shape_that_would_broadcast_is_refused(name: str) -> None:
    columns = {"rejected_B": torch.zeros(3), "margin_B": torch.zeros(3), "target_B": torch.ones(3)}
    columns[name] = columns[name][:, None]
    with pytest.raises(ValueError, match=name):
        bradley_terry(torch.zeros(3), **columns)


def test_weighted_mean() -> None:
    loss = torch.tensor([1.0, 2.0, 4.0])
    assert weighted_mean(loss, torch.tensor([1.0, 0.0, 3.0])).item() == 13 / 4
    assert weighted_mean(loss, torch.full((3,), 0.2)).item() == pytest.approx(loss.mean().item())


def test_weighted_mean_is_the_same_however_the_pairs_are_split() -> None:
    loss, _, _, weight = rewards()
    sums = [(loss[part] * weight[part]).sum() for part in (slice(0, 5), slice(5, None))]
    assert torch.allclose(weighted_mean(loss, weight), (sums[0] + sums[1]) / weight.sum())


@pytest.mark.parametrize("weight", [torch.zeros(3), torch.tensor([]), torch.full((3,), math.nan)])
def test_weighted_mean_without_weight_is_an_error(weight: Tensor) -> None:
    with pytest.raises(UserError, match=f"weights of these {len(weight)} pairs add up to"):
        weighted_mean(torch.ones_like(weight), weight)
