from types import SimpleNamespace

import torch

from rlhf_rm.callbacks.step_seed import StepSeed


def drawn(seed=1, step=0, rank=0, before=0):
    torch.manual_seed(before)
    trainer = SimpleNamespace(global_step=step, global_rank=rank)
    StepSeed(seed).on_train_batch_start(trainer, None, None, 0)
    return torch.rand(4).tolist()


def test_random_numbers_are_those_of_the_step_and_of_nothing_else():
    assert drawn(before=1) == drawn(before=2)
    all_different = [drawn(), drawn(seed=2), drawn(step=1), drawn(rank=1), drawn(seed=0, step=1)]
    assert len({tuple(numbers) for numbers in all_different}) == 5
