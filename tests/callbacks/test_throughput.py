from types import SimpleNamespace

import pytest

from rlhf_rm.callbacks.throughput import Throughput


class Clock:
    now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("rlhf_rm.callbacks.throughput.time", clock)
    return clock


class Module:
    logged: dict[str, float]

    def __init__(self):
        self.logged = {}

    def log(self, name, value):
        self.logged[name] = value


def step(throughput, clock, seconds, world=1, module=None):
    trainer = SimpleNamespace(world_size=world)
    batch = [SimpleNamespace(examples=3, rows=SimpleNamespace(tokens=50))] * 2
    throughput.on_train_batch_start(trainer, module, batch, 0)
    clock.now += seconds
    throughput.on_train_batch_end(trainer, module or Module(), None, batch, 0)


def test_examples_and_tokens_of_all_ranks_are_counted_after_the_warm_up(clock):
    throughput, module = Throughput(warmup_steps=1), Module()
    step(throughput, clock, 1000.0)
    assert throughput.examples_per_second is None
    step(throughput, clock, 2.0, world=4, module=module)
    assert throughput.examples_per_second == 4 * 6 / 2.0
    assert throughput.tokens_per_second == 4 * 100 / 2.0
    assert module.logged == {"train/examples_per_second": 12.0, "train/tokens_per_second": 200.0}


def test_loading_counts_and_validations_and_checkpoints_do_not(clock):
    throughput = Throughput(warmup_steps=0)
    step(throughput, clock, 2.0)
    clock.now += 1.0  # waiting for the next batch
    step(throughput, clock, 2.0)
    assert throughput.seconds == 5.0
    throughput.on_validation_start(None, None)
    clock.now += 60.0
    step(throughput, clock, 2.0)
    throughput.on_save_checkpoint(None, None, {})
    clock.now += 60.0
    step(throughput, clock, 2.0)
    assert throughput.seconds == 9.0
