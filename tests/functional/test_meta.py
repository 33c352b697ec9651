"""MetaRM's objective: closed form, bounds, ties, extreme rewards, gradients."""

import itertools
import math

import pytest
import torch

from rlhf_rm.functional.meta import difference_objective, pair_weight


def objective(rewards):
    """J of the responses to one prompt."""
    first, second = zip(*itertools.combinations(rewards, 2), strict=True)
    return (difference_objective(torch.stack(first), torch.stack(second)) * pair_weight(len(rewards))).sum()


def test_two_responses_in_closed_form():
    for difference in (0.0, 0.3, 2.0):
        found = objective(torch.tensor([1.0, 1.0 - difference], dtype=torch.float64))
        assert found.item() == pytest.approx(0.5 / (1 + math.exp(-difference)), abs=1e-12)


def test_it_is_the_double_sum_of_the_paper():
    reward = torch.randn(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = torch.sigmoid((reward[:, None] - reward[None]).abs())
    expected = 2 / 25 * matrix.triu(1).sum()
    assert objective(reward).item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize("k", [2, 3, 5, 16])
def test_it_lies_between_all_tied_and_all_far_apart(k):
    assert objective(torch.zeros(k)).item() == pytest.approx((k - 1) / (2 * k))
    assert objective(torch.arange(k) * 10_000.0).item() == pytest.approx((k - 1) / k)
    middle = objective(torch.randn(k, generator=torch.Generator().manual_seed(k))).item()
    assert (k - 1) / (2 * k) < middle < (k - 1) / k
    if k == 5:
        assert 0.4 < middle < 0.8


def test_the_order_and_the_level_of_the_rewards_do_not_matter():
    reward = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64)
    whole = objective(reward).item()
    assert objective(reward.flip(0)).item() == pytest.approx(whole, abs=1e-12)
    assert objective(reward + 7).item() == pytest.approx(whole, abs=1e-12)


def test_it_pushes_near_responses_apart_and_leaves_ties_and_far_ones():
    first = torch.tensor([0.1, 0.0, 10_000.0], requires_grad=True)
    second = torch.tensor([0.0, 0.0, -10_000.0], requires_grad=True)
    difference_objective(first, second).sum().backward()
    assert first.grad[0] > 0 > second.grad[0]
    assert first.grad[1:].tolist() == second.grad[1:].tolist() == [0.0, 0.0]


def test_gradient_and_narrow_types():
    first, second = (
        torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in ([0.5, -2.0], [0.2, 1.0])
    )
    assert torch.autograd.gradcheck(difference_objective, (first, second))
    narrow = difference_objective(torch.tensor([20.0]).bfloat16(), torch.tensor([19.875]).bfloat16())
    assert narrow.dtype == torch.float32 and narrow.item() == pytest.approx(
        1 / (1 + math.exp(-0.125)), abs=1e-6
    )


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"second_B has shape \(2,\), first_B \(3,\)"):
        difference_objective(torch.zeros(3), torch.zeros(2))
