from itertools import pairwise

import numpy as np
import pytest
import torch

from rlhf_rm.errors import UserError
from rlhf_rm.methods.schedules import warmup_constant, warmup_cosine, warmup_linear


def rates(schedule, steps=20, **options):
    """Learning rate of each step, as a share of the highest."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = schedule(optimizer, total_steps=steps, **options)
    seen = []
    for _ in range(steps + 1):
        seen.append(optimizer.param_groups[0]["lr"] / 2)
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize("schedule", [warmup_linear, warmup_cosine])
def test_the_rate_rises_linearly_and_falls_to_the_floor(schedule):
    got = rates(schedule, warmup=0.25, floor=0.1)
    np.testing.assert_allclose(got[:6], [0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert got[-1] == pytest.approx(0.1)
    assert all(a > b for a, b in pairwise(got[5:]))


def test_half_way_the_shapes_differ():
    assert rates(warmup_linear, warmup=0.0, floor=0.0)[5] == pytest.approx(0.75)
    assert rates(warmup_cosine, warmup=0.0, floor=0.0)[5] == pytest.approx((1 + 0.5**0.5) / 2)
    assert rates(warmup_cosine, warmup=0.0, floor=0.0)[10] == pytest.approx(0.5)


def test_constant_stays_at_the_peak_and_no_step_has_rate_zero():
    got = rates(warmup_constant, warmup=0.25)
    assert got[5:] == [1.0] * 16
    assert got[0] > 0


def test_a_run_of_one_step_learns():
    assert rates(warmup_linear, steps=1, warmup=0.05, floor=0.0)[0] == 1.0


@pytest.mark.parametrize("warmup", [-0.1, 1.0, 100])
def test_a_warmup_that_is_no_share_is_refused(warmup):
    with pytest.raises(UserError, match=f"scheduler.warmup={warmup} must be a share"):
        rates(warmup_constant, warmup=warmup)
