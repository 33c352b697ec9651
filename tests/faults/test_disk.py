"""A disk that is full or read-only, made for real: what the user is told, and what is left."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def mounted(directory, *options):
    """A file system of its own; needs the right to mount one."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(directory)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def train(cache, *overrides):
    return subprocess.run(
        [sys.executable, "train.py", *overrides],
        cwd=ROOT,
        env=os.environ | {"RLHF_RM_CACHE": cache, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


SHARDED = pytest.param(["strategy=fsdp", "trainer.devices=2"], id="fsdp", marks=pytest.mark.slow)


@pytest.mark.parametrize("strategy", [pytest.param([], id="auto"), SHARDED])
def test_a_full_disk_is_named_and_what_was_saved_before_is_gone_on_from(strategy, small, cache, tmp_path):
    with mounted(tmp_path / "full", "size=2m") as disk:
        told = [
            *small,
            *strategy,
            "trainer.max_steps=6",
            "trainer.max_epochs=-1",
            "callbacks.checkpoint.every_n_steps=1",
        ]
        told += ["callbacks.checkpoint.keep=99", "loader.batch_size=8", f"hydra.run.dir={disk / 'run'}"]
        (disk / "other").write_bytes(b"x" * 1_750_000)  # leaves room for three checkpoints
        ended = train(cache, *told)
        assert ended.returncode == 2, ended.stderr
        assert "Traceback" not in ended.stderr
        lines = [one for one in ended.stderr.splitlines() if one.startswith("Error")]
        line = lines[0].replace("Error on rank 1:", "Error:")
        assert len(lines) <= len(strategy) or len(lines) == 1
        assert line.startswith(f"Error: no space left on the device for {disk}/run/checkpoints/step_")
        assert line.endswith("an interrupted training goes on with resume=auto.")
        saved = sorted(path.name for path in (disk / "run" / "checkpoints").iterdir())
        assert "step_00000001.ckpt" in saved and not [name for name in saved if name.endswith(".part")]
        (disk / "other").unlink()
        ended = train(cache, *told, "resume=auto", "callbacks.checkpoint.keep=1")
        assert ended.returncode == 0, ended.stderr
        assert f"Going on from {disk}/run/checkpoints/step_" in ended.stdout
        assert json.loads((disk / "run" / "metrics.json").read_text())["steps"] == 6


def test_a_read_only_directory_is_refused_with_a_sentence(small, cache, tmp_path):
    with mounted(tmp_path / "read_only", "ro") as disk:
        ended = train(cache, *small, f"hydra.run.dir={disk / 'run'}")
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"Error: the file system is read-only for {disk / 'run'}: mend that")
        assert "Traceback" not in ended.stderr
