"""A run that was killed anywhere ends with the weights of one that was not, bit by bit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from rlhf_rm.callbacks.checkpoint import checkpoints

ROOT = Path(__file__).parents[2]
DROPOUT = {"dropout": 0.3}
# Steps of an epoch: 6, 6, 4, 6, 6; validations in the middle of an epoch, at its end, and none.
RUNS = {
    "validated_twice_an_epoch": {"max_epochs": 2, "val_check_interval": 0.5},
    "validated_across_epochs": {"max_epochs": 2, "val_check_interval": 4, "check_val_every_n_epoch": None},
    "limited_epochs": {"max_epochs": 3, "limit_train_batches": 4, "val_check_interval": 0.5},
    "ended_by_steps": {"max_epochs": None, "max_steps": 9, "limit_val_batches": 0},
    "packed_by_a_worker": {"max_epochs": 2, "limit_val_batches": 0, "data": {"workers": 1}},
}


def same(module, other):
    return all(
        torch.equal(weight, other[name])
        for name, weight in (module if isinstance(module, dict) else module.state_dict()).items()
    )


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """Each run without an interruption, with a checkpoint after every step; made once."""
    made = {}

    def get(name):
        if name not in made:
            directory = tmp_path_factory.mktemp(name)
            _, module, watch = tiny.fit(directory, model=DROPOUT, **RUNS[name])
            made[name] = directory, module.state_dict(), watch
        return made[name]

    return get


@pytest.mark.parametrize("name", RUNS)
def test_going_on_from_any_checkpoint_ends_with_the_same_weights(tiny, tmp_path, whole, name):
    directory, weights, watch = whole(name)
    last = len(watch.steps)
    assert [int(path.stem[5:]) for path in checkpoints(directory)] == list(range(1, last + 1))
    for done in (1, 3, 5, 6, 7, last) if name.startswith("validated") else (4, 5, 8, last):
        resumed = tiny.fit(
            tmp_path / str(done),
            model=DROPOUT,
            resume=directory / f"step_{done:08d}.ckpt",
            every_n_steps=99,
            **RUNS[name],
        )
        trainer, module, again = resumed
        assert again.steps == watch.steps[done:], f"other pairs after step {done}"
        assert again.rates == watch.rates[done:], f"other learning rates after step {done}"
        assert again.losses == watch.losses[done:]
        assert again.validations == [v for v in watch.validations if v[0] > done]
        assert trainer.global_step == last
        assert same(module, weights), f"other weights after step {done}"


def test_dropout_is_on_and_validations_happen(whole, tiny, tmp_path):
    _, weights, watch = whole("validated_twice_an_epoch")
    assert [step for step, _ in watch.validations] == [3, 6, 9, 12]
    _, module, _ = tiny.fit(tmp_path, every_n_steps=99, **RUNS["validated_twice_an_epoch"])
    assert not same(module, weights)


@pytest.mark.parametrize("after", [4, 6])
def test_sigterm_saves_the_step_and_the_run_goes_on_from_it(tiny, tmp_path, whole, after):
    _, weights, watch = whole("validated_twice_an_epoch")
    before = signal.getsignal(signal.SIGTERM)
    options = {"model": DROPOUT, "every_n_steps": 99, **RUNS["validated_twice_an_epoch"]}
    with pytest.raises(SIGTERMException):
        tiny.fit(tmp_path, watch=tiny.Watch(sigterm_after=after), **options)
    assert signal.getsignal(signal.SIGTERM) == before
    assert [path.name for path in checkpoints(tmp_path)] == [f"step_{after:08d}.ckpt"]
    _, module, again = tiny.fit(tmp_path, resume=checkpoints(tmp_path)[0], **options)
    assert again.steps == watch.steps[after:]
    assert again.validations == [one for one in watch.validations if one[0] >= after]
    assert same(module, weights)


@pytest.mark.parametrize("after", [3, 6])
def test_a_validation_that_sigterm_breaks_off_is_what_the_run_goes_on_with(tiny, tmp_path, whole, after):
    directory, weights, watch = whole("validated_twice_an_epoch")

    class InValidation(tiny.Watch):
        def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
            assert trainer.global_step < after or batch_idx < 2, "the validation went on"
            if trainer.global_step == after and batch_idx == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    options = {"model": DROPOUT, "every_n_steps": 99, **RUNS["validated_twice_an_epoch"]}
    with pytest.raises(SIGTERMException):
        tiny.fit(tmp_path, watch=InValidation(), **options)
    _, module, again = tiny.fit(tmp_path, resume=checkpoints(tmp_path)[0], **options)
    assert again.steps == watch.steps[after:]
    assert again.validations == [one for one in watch.validations if one[0] >= after]
    assert same(module, weights)
    assert (tmp_path / "metrics.csv").read_text() == (directory / "metrics.csv").read_text()


def test_after_sigkill_the_newest_checkpoint_is_whole(tiny, tmp_path, whole):
    """Killed in the second epoch; the newest checkpoint is of the end of the first."""
    _, weights, watch = whole("validated_twice_an_epoch")
    run = {
        "directory": str(tmp_path),
        "model": DROPOUT,
        "every_n_steps": 3,
        "keep": 1,
        "watch": {"kill_after": 8},
        **RUNS["validated_twice_an_epoch"],
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/tiny.py"), json.dumps([run])],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "manifest.json",
        "metrics.csv",
        "step_00000006.ckpt",
    ]
    _, module, again = tiny.fit(
        tmp_path,
        model=DROPOUT,
        resume=tmp_path / "step_00000006.ckpt",
        every_n_steps=3,
        **RUNS["validated_twice_an_epoch"],
    )
    assert again.steps == watch.steps[6:]
    assert same(module, weights)
    # Every step is in metrics.csv once, those before the kill included.
    rows = (tmp_path / "metrics.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(12))


def test_only_the_newest_are_kept_and_the_end_is_saved(tiny, tmp_path):
    tiny.fit(tmp_path, max_steps=5, limit_val_batches=0, every_n_steps=2, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000004.ckpt", "step_00000005.ckpt"]
    assert not list(tmp_path.glob("*.part"))


def test_a_trial_run_leaves_no_checkpoint(tiny, tmp_path):
    tiny.fit(tmp_path, fast_dev_run=True)
    assert checkpoints(tmp_path) == []
