import hashlib

import pytest

from rlhf_rm.data.splits import assign_split, check_fractions
from rlhf_rm.errors import UserError

IDS = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(4000)]


def sides(validation_fraction=0.1, test_fraction=0.2, split_seed=0):
    return [
        assign_split(
            i, validation_fraction=validation_fraction, test_fraction=test_fraction, split_seed=split_seed
        )
        for i in IDS
    ]


def test_the_shares_are_what_was_asked_for():
    split = sides()
    assert split.count("test") == pytest.approx(800, abs=75)  # three standard deviations
    assert split.count("validation") == pytest.approx(400, abs=57)
    assert set(sides(0.0, 0.0)) == {"train"}


def test_the_same_on_every_machine():
    assert sides()[:8] == ["train", "train", "train", "train", "validation", "test", "train", "train"]
    assert hashlib.sha256(" ".join(sides()).encode()).hexdigest()[:16] == "e61e257f7b088b12"


def test_the_test_split_stays_when_the_validation_share_changes_and_moves_with_the_seed():
    def test_of(**changes):
        return {i for i, side in zip(IDS, sides(**changes), strict=True) if side == "test"}

    assert test_of() == test_of(validation_fraction=0.5)
    assert len(test_of() & test_of(split_seed=1)) == pytest.approx(160, abs=40)


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.1), (0.5, 0.5), (0.1, 1.0), (float("nan"), 0.1)])
def test_fractions_that_leave_nothing_to_train_on_are_refused(validation, test):
    with pytest.raises(UserError, match="must be at least 0 and together less than 1"):
        check_fractions(validation, test)
