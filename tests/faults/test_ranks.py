"""A rank that dies: the others end at once, with the reason, and the run goes on from its checkpoint."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]


def test_a_rank_that_is_killed_ends_the_others_with_the_reason(small, cache, tmp_path):
    run = tmp_path / "run"
    told = [*small, "strategy=ddp", "trainer.devices=2", "trainer.max_epochs=-1", "loader.batch_size=4"]
    told += ["callbacks.checkpoint.every_n_steps=5", "trainer.limit_val_batches=0", f"hydra.run.dir={run}"]
    env = os.environ | {"RLHF_RM_CACHE": cache, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(
            [sys.executable, "train.py", *told, "trainer.max_steps=100000"],
            cwd=ROOT,
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 200
        while not list(run.glob("checkpoints/step_*.ckpt")):
            assert first.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
        (second,) = psutil.Process(first.pid).children()
        second.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        assert first.wait(timeout=60) == 2
        assert time.monotonic() - killed < 30
    said = (tmp_path / "log").read_text()
    assert "Error: another rank has died or does not answer" in said and "resume=auto" in said
    assert "Traceback" not in said
    done = int(max(path.stem[5:] for path in run.glob("checkpoints/step_*.ckpt")))
    again = subprocess.run(
        [sys.executable, "train.py", *told, f"trainer.max_steps={done + 2}", "resume=auto"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert again.returncode == 0, again.stderr
    assert f"Going on from {run}/checkpoints/step_{done:08d}.ckpt" in again.stdout
