"""Lightning starts further ranks by running the command again: each must find its own job, in a sweep too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(arguments, cache, **env):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"RLHF_RM_CACHE": cache, "OMP_NUM_THREADS": "1"} | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


@pytest.mark.parametrize(
    ("entry", "seeds"),
    [(["train.py"], [1, 2]), pytest.param(["-m", "rlhf_rm.cli", "train"], [1], marks=pytest.mark.slow)],
    ids=["train.py", "rlhf-rm"],
)
def test_each_job_of_a_sweep_has_two_ranks(entry, seeds, small, cache, tmp_path):
    command = [*entry, "-m", f"seed={','.join(map(str, seeds))}", "strategy=ddp", "trainer.devices=2"]
    command += ["trainer.fast_dev_run=true", *small, f"hydra.sweep.dir={tmp_path}"]
    ended = run(command, cache)
    assert ended.returncode == 0, ended.stderr
    jobs = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert jobs == ["0", "1"][: len(seeds)]
    for job in jobs:
        metrics = json.loads((tmp_path / job / "metrics.json").read_text())
        assert (metrics["ranks"], metrics["steps"]) == (2, 1)
        assert f"seed: {int(job) + 1}" in (tmp_path / job / "config.yaml").read_text()
    assert ended.stdout.count("Run directory") == len(seeds)


def test_both_ranks_of_a_policy_have_the_reward_model_that_the_world_makes(small, cache, tmp_path):
    command = ["train.py", "method=ppo", "sampling.max_new_tokens=8", "strategy=ddp", "trainer.devices=2"]
    ended = run([*command, *small, f"hydra.run.dir={tmp_path}/run"], cache)
    assert ended.returncode == 0, ended.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["ranks"], "gold" in metrics["sets"]["test"]) == (2, True)


def test_supervised_fine_tuning_on_two_ranks(small, cache, tmp_path):
    command = ["train.py", "method=sft", "strategy=ddp", "trainer.devices=2", f"hydra.run.dir={tmp_path}/run"]
    ended = run([*command, *small], cache)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["ranks"] == 2


def test_torchrun_starts_the_ranks(small, cache, tmp_path):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "train.py"]
    command += ["strategy=ddp", "trainer.devices=2", *small, f"hydra.run.dir={tmp_path}/run"]
    ended = run(command, cache)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["ranks"] == 2
    said = ended.stdout + ended.stderr
    assert said.count("Run directory") == said.count("train: 40 pairs") == 1
    again = run(command, cache)
    assert again.returncode != 0
    assert "already holds a run: add resume=auto" in again.stderr


@pytest.mark.slow
def test_slurm_gets_a_job_for_each_of_a_sweep_and_starts_its_ranks(small, cache, tmp_path):
    """With stand-ins for SLURM's own commands; the launcher and what finds the ranks are the real ones."""
    command = ["train.py", "-m", "launcher=slurm", "seed=1,2", "strategy=ddp", "trainer.devices=2"]
    command += ["trainer.fast_dev_run=true", *small, f"hydra.sweep.dir={tmp_path}"]
    ended = run(command, cache, PATH=f"{Path(__file__).parent / 'slurm'}:{os.environ['PATH']}")
    logs = list(tmp_path.glob(".submitit/*/*_log.err"))
    assert ended.returncode == 0, ended.stderr + "".join(log.read_text() for log in logs)
    for job in ("0", "1"):
        metrics = json.loads((tmp_path / job / "metrics.json").read_text())
        assert (metrics["ranks"], metrics["steps"]) == (2, 1)
        assert f"seed: {int(job) + 1}" in (tmp_path / job / "config.yaml").read_text()
    assert len(logs) == 4 and "mean of 2" in ended.stdout
    (script,) = tmp_path.glob(".submitit/*/*_submission.sh")
    for line in ("--nodes=1", "--ntasks-per-node=2", "--gpus-per-node=2", "--cpus-per-task=8", "--time=720"):
        assert f"#SBATCH {line}" in script.read_text()
