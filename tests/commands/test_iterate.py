"""`rlhf-rm iterate`: plan, rounds, what is done before, what is killed, and what is refused."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf_rm.commands.alone import alone_with_steps

ROOT = Path(__file__).parents[2]
SIZES = ["sampling.max_new_tokens=8", "judged.k=2", "policy={trainer.max_steps: 2}"]
FAST = [*SIZES, "trainer.max_steps=2"]


def rounds(directory):
    return json.loads((directory / "rounds.json").read_text())["rounds"]


def test_two_rounds_leave_a_table_and_are_not_done_twice(rlhf_rm, small, tmp_path):
    told = [*small, *FAST, "rounds=2", f"hydra.run.dir={tmp_path / 'run'}"]
    plan = rlhf_rm("iterate", *told, "dry_run=true")
    assert plan.code == 0, plan.err
    assert plan.out.count(": to do") == 13 and "rlhf-rm train data=synthetic" in plan.out
    assert f"hydra.run.dir={tmp_path}/run/round_01/policy" in plan.out
    assert not (tmp_path / "run" / "round_00").exists()
    ended = rlhf_rm("iterate", *told)
    assert ended.code == 0, ended.err
    table = rounds(tmp_path / "run")
    assert [row["round"] for row in table] == [1, 2]
    for row in table:
        assert {
            "win",
            "tie",
            "lose",
            "gold",
            "accuracy_policy",
            "accuracy_test",
            "spread",
            "ascent_cosine",
        } <= set(row)
        assert row["win"] + row["tie"] + row["lose"] == pytest.approx(1)
    assert (tmp_path / "run" / "rounds.png").stat().st_size > 10_000
    with (tmp_path / "run/round_01/responses/responses.jsonl").open() as file:
        row = json.loads(next(file))
    assert len(row["responses"]) == len(row["scores"]) == 5
    policy = json.loads((tmp_path / "run/round_01/policy/manifest.json").read_text())
    assert "./round_00/policy/export" in policy["reads"] and "./round_01/reward/export" in policy["reads"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("manifest.json")}
    again = rlhf_rm("iterate", *told)
    assert again.code == 0 and again.out.count("done before") == 13
    assert rounds(tmp_path / "run") == table
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("manifest.json")} == before
    longer = rlhf_rm("iterate", *[one for one in told if one != "rounds=2"], "rounds=3")
    assert longer.code == 0 and longer.out.count("done before") == 13
    assert rounds(tmp_path / "run")[:2] == table
    changed = rlhf_rm("iterate", *told, "judge.tie=0.5")
    assert changed.code == 0 and changed.out.count("done before") == 11
    assert (tmp_path / "run/round_00/judgement.outdated_1/judgement.json").is_file()


def test_a_plain_reward_model_is_trained_once_and_steps_may_be_launched(rlhf_rm, small, tmp_path):
    told = [*small, *FAST, "method=reward"]
    plan = rlhf_rm("iterate", *told, "rounds=2", "dry_run=true", f"hydra.run.dir={tmp_path}").out
    assert "round_00/reward: " in plan and "round_01/policy: " in plan
    assert "round_01/reward: " not in plan and "/responses: " not in plan
    here, there = tmp_path / "here", tmp_path / "there"
    assert rlhf_rm("iterate", *told, "rounds=1", f"hydra.run.dir={here}").code == 0
    ended = rlhf_rm("iterate", *told, "rounds=1", f"hydra.run.dir={there}", "launch='env LAUNCHED=1'")
    assert ended.code == 0, ended.err
    assert rounds(there) == rounds(here)


def test_the_table_has_the_rounds_that_are_done(rlhf_rm, small, tmp_path):
    told = [*small, *FAST, "rounds=2", "method=reward", "reward_init=anew", f"hydra.run.dir={tmp_path}"]
    (tmp_path / "round_01").write_text("in the way")
    assert rlhf_rm("iterate", *told).code != 0
    assert [row["round"] for row in rounds(tmp_path)] == [1] and (tmp_path / "rounds.png").is_file()
    (tmp_path / "round_01").unlink()
    assert rlhf_rm("iterate", *told).code == 0
    assert [row["round"] for row in rounds(tmp_path)] == [1, 2]
    assert rlhf_rm("iterate", *told, "judged.set=nowhere").code != 0
    assert not (tmp_path / "rounds.json").exists() and not (tmp_path / "rounds.png").exists()


def test_what_configuration_files_say_is_what_steps_depend_on(rlhf_rm, small, tmp_path):
    (tmp_path / "confs/data").mkdir(parents=True)
    file = tmp_path / "confs/data/mine.yaml"
    sizes = [one.removeprefix("data.").replace("=", ": ") for one in small if one.startswith("data.")]
    file.write_text("\n".join(["defaults: [synthetic]", *sizes]) + "\n")
    told = [*[one for one in small if not one.startswith("data.")], *FAST, "rounds=1", "data=mine"]
    told += ["method=reward", f"hydra.run.dir={tmp_path}/run"]
    for search in (["--config-dir", str(file.parents[1])], [f"hydra.searchpath=[file://{file.parents[1]}]"]):
        assert rlhf_rm("iterate", *told, *search).code == 0
        again = rlhf_rm("iterate", *told, "dry_run=true", "loader.workers=1", *search)
        assert again.out.count(": done") == 6 and search[0] in again.out
    file.write_text(file.read_text().replace("test_pairs: 12", "test_pairs: 13"))
    changed = rlhf_rm("iterate", *told, "dry_run=true", *search)
    # All but the accuracy, which is measured on what was sampled.
    assert changed.out.count(": outdated") == 5 and "round_00/accuracy: done, unless" in changed.out


def test_texts_of_a_configuration_are_no_paths(rlhf_rm, small, tmp_path):
    (tmp_path / "confs").mkdir()
    told = [*small, *FAST, "rounds=1", "dry_run=true", "judge=endpoint", "judge.model=x"]
    told += ["judge.base_url=http://localhost:1/v1", f"hydra.run.dir={tmp_path}/run"]
    plan = rlhf_rm("iterate", *told, "--config-dir", str(tmp_path / "confs"))
    assert plan.code == 0 and plan.out.count(": to do") == 7, plan.err


def test_what_one_process_starts_may_be_for_several():
    told = [sys.executable, "-c", "import os; from rlhf_rm import cli; "
            "cli._command = lambda name: lambda cfg: print(os.environ.get('RLHF_RM_ONE_PROCESS'))\n"
            "cli.run('score', ['rlhf-rm', 'run=a', 'input=b', 'output=c'])"]  # fmt: skip
    said = {}
    for rank in "01":
        ranked = {"RLHF_RM_ONE_PROCESS": "1", "SLURM_PROCID": rank, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(told, env=os.environ | ranked, capture_output=True, text=True, check=True)
        said[rank] = ended.stdout
    assert said == {"0": "None\n", "1": ""}


def test_a_dry_run_makes_no_model(rlhf_rm, small, tmp_path):
    told = [*small, *FAST, "rounds=1", f"hydra.run.dir={tmp_path}/run", f"paths.cache_dir={tmp_path}/cache"]
    plan = rlhf_rm("iterate", *told, "dry_run=true")
    assert plan.code == 0 and plan.out.count(": to do") == 7
    assert not list(tmp_path.glob("cache/base/*"))


def test_each_round_may_begin_where_the_last_ended_or_at_the_start(rlhf_rm, small, tmp_path):
    told = [*small, *FAST, "rounds=2", "reward_init=previous", "policy_init=sft", "seed=7", "dry_run=true"]
    plan = rlhf_rm("iterate", *told, f"hydra.run.dir={tmp_path / 'run'}").out.splitlines()
    command = {
        line.split("]")[1].split(":")[0].strip(): plan[i + 1] for i, line in enumerate(plan) if line[0] == "["
    }
    assert "round_00/reward/export" in command["round_01/reward"].split("model.path=")[1]
    assert "model.path=" not in command["round_01/policy"] and "model.path=" not in command["round_00/reward"]
    # A round of few steps would else see the prompts of the one before again, and no others.
    seeds = [command[f"round_0{number}/policy"].split(" seed=")[-1].split()[0] for number in (0, 1)]
    assert seeds == ["7", "8"]


def test_a_plain_reward_model_may_be_trained_again_in_each_round_with_a_seed_of_its_own(
    rlhf_rm, small, tmp_path
):
    told = [*small, *FAST, "rounds=2", "method=reward", "reward_init=anew", "seed=5", "dry_run=true"]
    plan = rlhf_rm("iterate", *told, f"hydra.run.dir={tmp_path / 'run'}").out
    trained = [line for line in plan.splitlines() if "method=reward" in line]
    assert [line.split(" seed=")[-1].split()[0] for line in trained] == ["5", "6"]
    assert not any("model.path=" in line for line in trained)
    single = rlhf_rm("iterate", *told, "judged.k=1", f"hydra.run.dir={tmp_path / 'run'}").out
    greedy = rlhf_rm("iterate", *told, "judged.temperature=0", f"hydra.run.dir={tmp_path / 'run'}").out
    assert plan.count("/accuracy: ") == 2 and "/accuracy: " not in single
    # Of equal responses none is better than another.
    assert "/judgement: " in greedy and "/accuracy: " not in greedy
    told = [*[one for one in told if "policy=" not in one], "reward={seed: 20}", "policy={seed: 30}"]
    own = rlhf_rm("iterate", *told, f"hydra.run.dir={tmp_path / 'run'}").out.splitlines()
    seeds = [line.split(" seed=")[-1].split()[0] for line in own if "rlhf-rm train" in line]
    assert seeds == ["20", "30", "21", "31"]


def test_what_is_climbed_on_has_a_temperature_of_its_own(rlhf_rm, small, tmp_path):
    told = [*small, *FAST, "rounds=1", "dry_run=true", "sampling.temperature=0.8", "sampled.temperature=1.5"]
    plan = rlhf_rm("iterate", *told, f"hydra.run.dir={tmp_path / 'run'}").out.splitlines()
    last = {
        name: line.split("sampling.temperature=")[-1].split()[0]
        for name in ("start/answers", "round_00/responses", "round_00/policy")
        for line in plan
        if f"/run/{name}" in line.split("hydra.run.dir=")[-1]
    }
    assert last == {"start/answers": "0.8", "round_00/responses": "1.5", "round_00/policy": "0.8"}


def start(told, cache, log):
    env = os.environ | {"PYTHONPATH": str(ROOT), "RLHF_RM_CACHE": cache, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "rlhf_rm.cli", "iterate", *told], stdout=log, stderr=subprocess.STDOUT, env=env
    )


def killed_and_resumed(told, cache, directory, times, seed):
    """Kill a run at random moments, begin it again each time, and let the last one end."""
    rng = random.Random(seed)
    whole = directory / "whole"
    with (directory / "log").open("w") as log:
        began = time.monotonic()
        assert start([*told, f"hydra.run.dir={whole}"], cache, log).wait(timeout=600) == 0
        seconds = time.monotonic() - began
        part = [*told, f"hydra.run.dir={directory / 'part'}"]
        for _ in range(times):
            process = start(part, cache, log)
            time.sleep(rng.uniform(0.2, 1.0) * seconds)
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=60)
        assert start(part, cache, log).wait(timeout=600) == 0, (directory / "log").read_text()[-3000:]
    assert rounds(directory / "part") == rounds(whole)
    return seconds


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_table(small, tmp_path, cache):
    every = "callbacks.checkpoint.every_n_steps=1"
    killed_and_resumed([*small, *SIZES, "rounds=2", every], cache, tmp_path, times=1, seed=1)


def test_only_one_works_in_a_directory(rlhf_rm, small, tmp_path):
    with alone_with_steps(tmp_path / "run"):
        ended = rlhf_rm("iterate", *small, *FAST, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 2 and "another process is at work in" in ended.err


def test_a_step_that_fails_says_which_one_it_was(rlhf_rm, small, tmp_path):
    told = [*small, *FAST, "rounds=1", f"hydra.run.dir={tmp_path / 'run'}", "meta.prompts=999"]
    ended = rlhf_rm("iterate", *told)
    assert ended.code == 2 and "round_00/reward: " in ended.err and "prompts to climb on" in ended.err
    launched = rlhf_rm("iterate", *told, "launch=env")
    assert launched.code == 2 and "round_00/reward failed with exit code 2" in launched.err


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (["rounds=0"], "rounds=0 must be a whole number of at least 1"),
        (["policy_init=base"], "policy_init=base is unknown: use one of sft, previous"),
        (["reward_init=sft"], "reward_init=sft is unknown: use one of base, anew, previous"),
        (["method=ppo"], "method is how each round trains its reward model"),
        (["resume=auto"], "resume=auto is nothing for iterate"),
        (["base.enabled=false"], "a policy of random weights has nothing to say"),
        (["judged.prompts=0"], "judged.prompts=0 must be a whole number of at least 1"),
        (["judged.k=65"], "judged.k=65 must be a whole number from 1 to 64"),
        (["sampled.temperature=-1"], "sampled.temperature=-1 must be a number of at least 0"),
        (["sampled.temperature=0"], "sampled.temperature=0 gives the same response each time"),
        (["sampling.temperature=0"], "sampled.temperature=0 gives the same response each time"),
        (["judge.tie=far"], "Error: judge.tie=far must be a number of at least 0"),
        (["policy={optimizer.lr: 0}"], "policy={…}: optimizer.lr=0 must be a number above 0"),
        (["reward={loader.batch_size: 0}"], "reward={…}: loader.batch_size=0 must be a whole number"),
        (["judge=reward"], "the judge needs judge.run"),
    ],
)
def test_bad_input_ends_with_a_sentence(rlhf_rm, small, told, says):
    ended = rlhf_rm("iterate", *small, *told)
    assert ended.code == 2 and says in ended.err, ended.err


def test_gold_judges_nothing_but_the_world(rlhf_rm, small):
    told = [one for one in small if not one.startswith("data.")]
    ended = rlhf_rm("iterate", *told, "data=jsonl", "data.path=x.jsonl")
    assert ended.code == 2 and "judge=gold judges by the true reward" in ended.err
