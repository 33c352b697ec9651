import numpy as np
import pytest

from rlhf_rm.data.strengths import from_members
from rlhf_rm.voting.summary import agreement, auroc, summarise, wrong_labels


def strengths(members):
    members = np.atleast_2d(np.asarray(members, float))
    return from_members([f"p{i:03d}" for i in range(members.shape[1])], members)


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    score = rng.normal(size=60).round(1) * 1e3  # ties, and far outside [0, 1]
    positive = rng.random(60) < 0.3
    difference = score[positive][:, None] - score[~positive][None]
    by_hand = ((difference > 0) + 0.5 * (difference == 0)).mean()
    assert auroc(score, positive) == pytest.approx(by_hand, abs=1e-6)
    assert auroc(score, np.zeros(60, bool)) is None


def test_agreement_is_taken_by_tenth_where_the_reference_speaks():
    mean = np.arange(40) - 19.5
    right = (mean > 0).astype(float)
    right[::2] = np.nan
    bins = agreement(mean, right)
    assert [one["pairs"] for one in bins] == [2] * 10
    assert [one["agreement"] for one in bins] == [0.0] * 5 + [1.0] * 5


def test_wrong_labels_planted_and_other_are_told_apart():
    # Ten weakest pairs: the five weakest are planted flips, the others labels that went wrong by themselves.
    mean = np.arange(100.0)
    right = (mean >= 10).astype(float)
    flipped = (mean < 5).astype(float)
    flipped[50] = 1.0  # planted on a label that was wrong before: right now
    found = wrong_labels(strengths(mean), right, flipped)
    assert (
        found["share"] == 0.1
        and found["auroc"] == pytest.approx(1.0)
        and found["precision_lowest_tenth"] == 1.0
    )
    assert found["auroc_flipped"] == found["auroc_other"] == pytest.approx(1.0)
    swapped = wrong_labels(strengths(-mean), right, flipped)
    assert swapped["auroc"] == 0.0 and swapped["precision_lowest_tenth"] == 0.0
    assert "auroc_flipped" not in wrong_labels(strengths(mean), right, None)


def test_more_members_find_more():
    rng = np.random.default_rng(1)
    right = rng.random(2000) > 0.2
    members = np.where(right, 1.0, -1.0) + 3 * rng.normal(size=(10, 2000))
    by = wrong_labels(strengths(members), right.astype(float), None)["auroc_by_members"]
    assert list(by) == ["1", "2", "5", "10"]
    assert by["1"] < by["2"] < by["5"] < by["10"]


def test_a_set_without_a_reference_has_quantiles_alone():
    found = summarise(strengths([[-1.0, 0.0, 1.0, 2.0]]), {})
    assert found["negative"] == 0.25 and found["quantiles"]["50"] == 0.5 and found["quantiles"]["100"] == 2.0
    assert "wrong_labels" not in found
