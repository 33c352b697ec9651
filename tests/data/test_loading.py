import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from rlhf_rm.data.loading import AHEAD, evaluation_loader, step_loader, training_loader
from rlhf_rm.errors import UserError


def trainer(rank=0, world=1, step=0, limit=1.0, lightnings_sampler=False):
    return SimpleNamespace(
        global_rank=rank,
        world_size=world,
        global_step=step,
        limit_train_batches=limit,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        _accelerator_connector=SimpleNamespace(use_distributed_sampler=lightnings_sampler),
    )


def evaluated(count, world, batch_size=4):
    return [
        list(evaluation_loader(trainer(rank, world), list, count, batch_size=batch_size, workers=0))
        for rank in range(world)
    ]


@pytest.mark.parametrize(("count", "world"), [(10, 1), (10, 2), (3, 2), (1, 4), (16, 2)])
def test_an_evaluation_takes_every_example_once_and_every_rank_takes_as_many_steps(count, world):
    ranks = evaluated(count, world)
    assert sorted(i for steps in ranks for step in steps for i in step) == list(range(count))
    assert len({len(steps) for steps in ranks}) == 1
    assert max(len(step) for steps in ranks for step in steps) <= 4


def test_an_evaluation_outside_of_training_needs_no_trainer():
    assert list(evaluation_loader(None, list, 5, batch_size=2, workers=0)) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_position_is_read_when_the_first_step_is_asked_for(workers):
    whole = list(training_loader(trainer(), list, [9] * 12, batch_size=2, seed=0, workers=0))
    resumed = trainer()
    loader = training_loader(resumed, list, [9] * 12, batch_size=2, seed=0, workers=workers)
    iterator = iter(loader)  # Lightning does this before it knows the step
    resumed.global_step = 4
    assert list(iterator) == whole[4:]


@pytest.mark.parametrize(("limit", "an_epoch"), [(1.0, 6), (0.5, 3), (4, 4), (99, 6), (0.01, 1)])
def test_a_limit_on_batches_is_where_the_next_epoch_begins(limit, an_epoch):
    def after(step, limit):
        return list(
            training_loader(trainer(step=step, limit=limit), list, [9] * 12, batch_size=2, seed=0, workers=0)
        )

    assert after(an_epoch, limit) == after(6, 1.0)


def test_lightnings_own_sampler_is_refused():
    with pytest.raises(UserError, match="use_distributed_sampler=False"):
        training_loader(
            trainer(world=2, lightnings_sampler=True), list, [9] * 12, batch_size=2, seed=0, workers=0
        )


def test_who_packs_unless_it_is_said():
    def workers(device, asked):
        of = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))
        return step_loader(list, [[0]], of, asked).num_workers

    assert (workers("cpu", None), workers("cuda", None), workers("cuda", 0), workers("cpu", 3)) == (
        0,
        AHEAD,
        0,
        3,
    )


def test_a_step_of_more_tensors_than_files_may_be_open_at_first_comes_from_a_worker():
    code = """
import resource, torch
from rlhf_rm.data.loading import step_loader
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, most))
steps = step_loader(lambda indices: [torch.ones(1) for _ in range(300)], [[0], [1]], None, 1)
print(sum(len(step) for step in steps))
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.stdout == "600\n", ended.stderr
