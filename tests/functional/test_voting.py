import pytest
import torch

from rlhf_rm.functional.voting import preference_strength, strength_rank, vote_probability


def test_mean_and_population_deviation_by_hand():
    mean, std = preference_strength(torch.tensor([[1.0, -2.0], [3.0, -2.0], [5.0, -2.0]]))
    assert mean.tolist() == [3.0, -2.0]
    assert std.tolist() == pytest.approx([(8 / 3) ** 0.5, 0.0])


def test_one_member_has_no_deviation():
    mean, std = preference_strength(torch.tensor([[0.5, -1e4]]))
    assert mean.tolist() == [0.5, -1e4] and std.tolist() == [0.0, 0.0]


def test_half_precision_is_widened_before_the_mean():
    difference = torch.full((1000, 1), 1.0078125, dtype=torch.bfloat16)
    assert preference_strength(difference)[0].item() == 1.0078125


def test_members_and_pairs_are_not_mixed_up():
    with pytest.raises(ValueError, match=r"shape \(3,\), not \(members, pairs\)"):
        preference_strength(torch.zeros(3))


def test_the_vote_is_the_mean_probability_and_not_that_of_the_mean():
    difference = torch.tensor([[0.0, 1e4], [torch.inf, -1e4]])
    assert vote_probability(difference).tolist() == [0.75, 0.5]


def test_ranks_lie_between_the_pairs():
    assert strength_rank(torch.tensor([3.0, -1.0, 3.0, 0.0])).tolist() == [0.625, 0.125, 0.875, 0.375]
