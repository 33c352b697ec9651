"""Killed at twenty random moments, a training ends with the weights of one that was not, bit by bit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20


def start(told, cache, log):
    return subprocess.Popen(
        [sys.executable, "train.py", *told],
        cwd=ROOT,
        env=os.environ | {"RLHF_RM_CACHE": cache, "OMP_NUM_THREADS": "1"},
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def newest(run):
    return max((path.name for path in run.glob("checkpoints/step_*.ckpt")), default="")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_twenty_random_moments_the_weights_are_those_of_a_whole_run(small, cache, tmp_path):
    told = [*small, "data.train_pairs=400", "trainer.max_epochs=-1", "trainer.max_steps=2500", "resume=auto"]
    told += ["callbacks.checkpoint.every_n_steps=7", "trainer.val_check_interval=100"]
    rng = random.Random(0)
    whole, part = tmp_path / "whole", tmp_path / "part"
    with (tmp_path / "log").open("w") as log:
        assert start([*told, f"hydra.run.dir={whole}"], cache, log).wait(timeout=600) == 0
        killed = 0
        while killed < KILLS:
            process = start([*told, f"hydra.run.dir={part}"], cache, log)
            before = newest(part)
            while newest(part) == before and process.poll() is None:
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.5))
            if process.poll() is not None:  # it had reached its end: what is left is to test and export again
                assert process.returncode == 0, (tmp_path / "log").read_text()[-3000:]
                break
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=60)
            killed += 1
        assert killed == KILLS, f"the run was over after {killed} kills: let it be longer"
        assert start([*told, f"hydra.run.dir={part}"], cache, log).wait(timeout=600) == 0
    weights = [(run / "export" / "model.safetensors").read_bytes() for run in (whole, part)]
    assert weights[0] == weights[1]
    rows = (part / "metrics.csv").read_text().splitlines()[1:]
    assert len(rows) == len({row.split(",")[0] for row in rows})  # every step is there once
