import numpy as np
import pytest

from rlhf_rm.data.sampling import StepSampler
from rlhf_rm.errors import UserError

SIZES = np.random.default_rng(0).integers(20, 400, 50).tolist()


def steps(done=0, world=1, batch=None, **changes):
    """The steps of every rank from ``done`` to the end of the epoch: steps x ranks x items."""
    ranks = [
        list(
            StepSampler(
                SIZES,
                batch_size=batch or 8 // world,
                seed=1,
                rank=rank,
                world_size=world,
                steps_done=lambda: done,
                **changes,
            )
        )
        for rank in range(world)
    ]
    return list(zip(*ranks, strict=True))


def test_an_epoch_takes_no_item_twice_and_every_step_is_full():
    epoch = [items for (items,) in steps()]
    assert [len(items) for items in epoch] == [8] * 6
    assert len({i for items in epoch for i in items}) == 48


def test_each_epoch_and_each_seed_has_its_own_order():
    first, second = steps(), steps(done=6)
    assert len(second) == 6
    assert first != second
    other = StepSampler(SIZES, batch_size=8, seed=2)
    assert list(other) != [items for (items,) in first]


@pytest.mark.parametrize("done", [1, 5, 6, 7, 11])
def test_a_resumed_run_takes_the_steps_that_were_left(done):
    assert steps(done) == (steps() if done < 6 else steps(6))[done % 6 :]


def test_a_limit_on_the_steps_of_an_epoch_begins_the_next_one_earlier():
    assert steps(4, steps_an_epoch=4) == steps(6)
    assert steps(6, steps_an_epoch=4) == steps(6)[2:]
    assert steps(6, steps_an_epoch=99) == steps(6)


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_step_of_one_process_with_nearly_equal_tokens(world):
    for shares, (whole,) in zip(steps(world=world), steps(), strict=True):
        assert {len(share) for share in shares} == {8 // world}
        assert sorted(i for share in shares for i in share) == sorted(whole)
        tokens = [sum(SIZES[i] for i in share) for share in shares]
        assert max(tokens) - min(tokens) <= max(SIZES[i] for i in whole)
    spread = [np.ptp([sum(SIZES[i] for i in share) for share in shares]) for shares in steps(world=world)]
    dealt_in_turn = [
        np.ptp([sum(SIZES[i] for i in whole[rank::world]) for rank in range(world)]) for (whole,) in steps()
    ]
    assert np.mean(spread) < 0.6 * np.mean(dealt_in_turn)


def test_fewer_items_than_a_step_takes_are_refused():
    with pytest.raises(
        UserError, match=r"7 training examples are fewer than one step takes \(4 on each of 2"
    ):
        StepSampler([10] * 7, batch_size=4, seed=0, world_size=2)
    with pytest.raises(UserError, match="batch_size=0 must be at least 1"):
        StepSampler([10] * 7, batch_size=0, seed=0)
