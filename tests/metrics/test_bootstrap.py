"""The bootstrap over prompts: deterministic, covering, wider where pairs hang together."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from rlhf_rm.metrics.bootstrap import bootstrap_ci, share_interval


def test_same_seed_same_interval_in_any_order() -> None:
    rng = np.random.default_rng(0)
    correct, groups = torch.tensor(rng.random(300) < 0.7), [f"prompt {i % 90}" for i in range(300)]
    order = rng.permutation(300)
    interval = bootstrap_ci(correct, groups, resamples=2000, seed=3)
    assert interval == bootstrap_ci(correct[order], [groups[i] for i in order], resamples=2000, seed=3)
    assert interval != bootstrap_ci(correct, groups, resamples=2000, seed=4)


def test_is_the_plain_cluster_bootstrap() -> None:
    rng = np.random.default_rng(1)
    group = rng.integers(0, 120, 400)
    correct = rng.random(400) < np.where(group % 2, 0.9, 0.4)
    interval = bootstrap_ci(torch.tensor(correct), [str(g) for g in group], resamples=20_000, seed=0)
    names = np.unique(group)
    pairs = np.array([(group == name).sum() for name in names])
    right = np.array([correct[group == name].sum() for name in names])
    drawn = rng.integers(0, len(names), (20_000, len(names)))
    direct = np.quantile(right[drawn].sum(1) / pairs[drawn].sum(1), [0.025, 0.975])
    assert interval == pytest.approx(tuple(direct), abs=0.004)


def test_covers_the_truth_19_times_in_20() -> None:
    rng = np.random.default_rng(0)
    groups, hits = [str(i // 3) for i in range(600)], 0
    for _ in range(200):
        of_prompt = rng.beta(4, 2, 200).repeat(3)  # mean 2/3; the pairs of a prompt hang together
        interval = bootstrap_ci(torch.tensor(rng.random(600) < of_prompt), groups, resamples=500, seed=0)
        assert interval is not None
        hits += interval[0] <= 2 / 3 <= interval[1]
    assert 180 <= hits <= 198


def test_wider_where_the_pairs_of_a_prompt_hang_together() -> None:
    correct = torch.tensor([i % 10 < 6 for i in range(100)]).repeat_interleave(5)
    by_prompt = bootstrap_ci(correct, [str(i // 5) for i in range(500)], resamples=2000, seed=0)
    by_pair = bootstrap_ci(correct, [str(i) for i in range(500)], resamples=2000, seed=0)
    assert by_prompt is not None
    assert by_pair is not None
    assert by_prompt[1] - by_prompt[0] > 2 * (by_pair[1] - by_pair[0])


@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_none_is_the_exact_interval_of_as_many_prompts(right: bool) -> None:
    groups = [str(i // 3) for i in range(30)]
    interval = bootstrap_ci(torch.full((30,), right), groups, resamples=100, seed=0)
    expected = binomtest(10 if right else 0, 10).proportion_ci(0.95, method="exact")
    assert interval == pytest.approx(tuple(expected), abs=1e-12)
    assert bootstrap_ci(torch.tensor([right]), ["a"], resamples=100, seed=0) is None


def test_one_prompt_says_nothing_about_others() -> None:
    assert bootstrap_ci(torch.tensor([True, False]), ["a", "a"], resamples=100, seed=0) is None


def test_of_prompts_that_are_all_alike_a_few_might_be_otherwise() -> None:
    # A win less a loss is -1, 0 or 1: of ties that are all the same a few might be either.
    found = bootstrap_ci(torch.zeros(5), list("abcde"), resamples=100, seed=0, ends=(-1.0, 1.0))
    most = 1 - 0.025 ** (1 / 5)
    assert found == pytest.approx((-most, most), abs=1e-12)


def test_a_share_of_all_or_none_has_an_interval_too() -> None:
    of_all, of_none, of_half = (share_interval(count, 40) for count in (40, 0, 20))
    assert of_all is not None and of_none is not None and of_half is not None
    assert of_all == pytest.approx((0.9124, 1), abs=1e-4)  # 40 / (40 + 1.96²)
    assert of_none == pytest.approx((1 - of_all[1], 1 - of_all[0]))
    assert of_half[0] < 0.5 < of_half[1] and sum(of_half) == pytest.approx(1)
    assert share_interval(1, 1) is None
