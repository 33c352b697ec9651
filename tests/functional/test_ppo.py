"""Every formula against a case by hand, or a slow loop."""

import math

import pytest
import torch

from rlhf_rm.functional.ppo import (
    Moments,
    adapted_kl_weight,
    divergence,
    explained_variance,
    generalised_advantages,
    moments,
    own_tokens,
    policy_loss,
    pool_rewards,
    token_rewards,
    value_loss,
)

NAN = float("nan")


def test_a_score_lands_on_the_last_token_whatever_the_length():
    log_ratio = torch.tensor([[0.5, -1.0, 9.0], [2.0, 9.0, 9.0], [9.0, 9.0, 9.0], [1.0, 1.0, 1.0]])
    length = torch.tensor([2, 1, 0, 3])
    got = token_rewards(torch.tensor([10.0, 20.0, 30.0, 40.0]), log_ratio, length, kl_weight=0.1)
    expected = [[-0.05, 10.1, 0], [19.8, 0, 0], [0, 0, 0], [-0.1, -0.1, 39.9]]
    assert torch.allclose(got, torch.tensor(expected))


def test_advantages_of_a_case_by_hand():
    # deltas: 1 + 0.5 * 2 - 1 = 1, and 3 - 2 = 1; A_1 = 1, A_0 = 1 + 0.5 * 0.8 * 1.
    got = generalised_advantages(
        torch.tensor([[1.0, 3.0, NAN]]),
        torch.tensor([[1.0, 2.0, NAN]]),
        torch.tensor([2]),
        discount=0.5,
        trace_decay=0.8,
    )
    assert torch.allclose(got, torch.tensor([[1.4, 1.0, 0.0]]))


def test_advantages_are_those_of_a_slow_loop_over_sums():
    torch.manual_seed(0)
    reward, value = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    length = torch.tensor([7, 3, 1, 0, 5])
    discount, decay = 0.97, 0.9
    got = generalised_advantages(reward, value, length, discount=discount, trace_decay=decay)
    for n, tokens in enumerate(length.tolist()):
        for t in range(7):
            total = 0.0
            for later in range(t, tokens):
                following = value[n, later + 1] if later + 1 < tokens else 0.0
                delta = reward[n, later] + discount * following - value[n, later]
                total += (discount * decay) ** (later - t) * delta
            assert got[n, t].item() == pytest.approx(float(total), abs=1e-12)


def test_with_full_trace_the_returns_are_the_sums_of_what_follows():
    reward, value = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[9.0, -4.0, 2.5]])
    advantage = generalised_advantages(reward, value, torch.tensor([3]), discount=1.0, trace_decay=1.0)
    assert torch.allclose(advantage + value, torch.tensor([[6.0, 5.0, 3.0]]))


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.5, 2.0, -2.4, 0.0),  # better already: nothing more to gain
        (0.5, 2.0, -1.0, -1.0),  # worse: the way back counts
        (0.5, -2.0, 1.6, 0.0),
        (1.5, -2.0, 3.0, 3.0),
    ],
)
def test_the_policy_loss_is_clipped_on_the_side_of_gain_alone(ratio, advantage, loss, slope):
    new = torch.tensor([math.log(ratio)], requires_grad=True)
    got = policy_loss(new, torch.zeros(1), torch.tensor([advantage]), clip=0.2)
    got.sum().backward()
    assert got.item() == pytest.approx(loss)
    assert new.grad.item() == pytest.approx(slope)


@pytest.mark.parametrize(
    ("new", "clip", "loss"),
    [(1.0, 0.2, 0.5 * 2.8**2), (1.0, None, 2.0), (-2.0, 0.2, 12.5), (0.1, 0.2, 0.5 * 2.9**2)],
)
def test_the_value_loss_takes_the_worse_of_the_value_and_its_clipped_self(new, clip, loss):
    got = value_loss(torch.tensor([new]), torch.zeros(1), torch.tensor([3.0]), clip=clip)
    assert got.item() == pytest.approx(loss)


def test_the_divergence_estimates_kl_without_bias_and_is_never_negative():
    torch.manual_seed(0)
    old, new = torch.randn(50).log_softmax(0), torch.randn(50).log_softmax(0)
    exact = (old.exp() * (old - new)).sum()
    token = old.exp().multinomial(200_000, replacement=True)
    estimate = divergence(new[token], old[token])
    assert estimate.min() >= 0
    assert estimate.mean().item() == pytest.approx(exact.item(), rel=0.05)


def test_pools_of_several_reward_models():
    reward = torch.tensor([[1.0, 3.0], [2.0, 2.0]])
    assert pool_rewards(reward, pool="mean", caution=9.0).tolist() == [2, 2]
    assert pool_rewards(reward, pool="worst", caution=9.0).tolist() == [1, 2]
    assert pool_rewards(reward, pool="cautious", caution=0.5).tolist() == [1.5, 2]
    with pytest.raises(ValueError, match="use one of mean, worst, cautious"):
        pool_rewards(reward, pool="best", caution=0.0)


def test_one_number_has_no_interval():
    assert moments(torch.tensor([2.0])).interval is None and Moments().interval is None
    low, high = moments(torch.tensor([1.0, 3.0])).interval
    assert (low, high) == pytest.approx((2 - 1.96 / math.sqrt(2), 2 + 1.96 / math.sqrt(2)))


def test_moments_merge_to_those_of_all():
    torch.manual_seed(0)
    value = torch.randn(100, dtype=torch.float64) * 3 + 50
    merged = Moments()
    for part in value.split([1, 0, 60, 39]):
        merged = merged.merged(moments(part))
    assert merged.number == 100
    assert merged.mean == pytest.approx(value.mean().item(), abs=1e-12)
    assert merged.deviation == pytest.approx(value.std(correction=0).item(), abs=1e-12)
    assert Moments().deviation == 0


def test_the_kl_weight_follows_its_target_by_a_fifth_at_most():
    adapt = {"target": 4.0, "horizon": 100.0, "responses": 50}
    assert adapted_kl_weight(0.1, 4.4, **adapt) == pytest.approx(0.1 * (1 + 0.1 * 0.5))
    assert adapted_kl_weight(0.1, 400.0, **adapt) == pytest.approx(0.1 * (1 + 0.2 * 0.5))
    assert adapted_kl_weight(0.1, -1.0, **adapt) == pytest.approx(0.1 * (1 - 0.2 * 0.5))
    many = adapt | {"responses": 1024}
    assert adapted_kl_weight(0.1, 0.0, **many) == pytest.approx(0.08)


def test_explained_variance_is_one_for_a_critic_that_knows_and_none_for_a_constant():
    returns = torch.tensor([1.0, 2.0, 4.0])
    assert explained_variance(moments(returns - returns), moments(returns)) == 1
    assert explained_variance(moments(returns - 3.0), moments(returns)) == pytest.approx(0)
    assert explained_variance(moments(returns * 2), moments(returns)) == pytest.approx(-3)
    assert explained_variance(moments(torch.zeros(3)), moments(torch.ones(3))) == 0


def test_own_tokens():
    assert own_tokens(torch.tensor([0, 2]), 3).tolist() == [[False] * 3, [True, True, False]]


def test_gradients_of_both_losses():
    torch.manual_seed(0)
    columns = [torch.randn(6, dtype=torch.float64, requires_grad=i == 0) for i in range(3)]
    assert torch.autograd.gradcheck(lambda new: policy_loss(new, *columns[1:], clip=0.2), columns[:1])
    assert torch.autograd.gradcheck(lambda new: value_loss(new, *columns[1:], clip=0.2), columns[:1])
