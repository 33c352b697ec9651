"""`rlhf-rm paper`: its plan, what it refuses, and all of it on a tiny world, killed once in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rlhf_rm.commands.checks import check_config
from rlhf_rm.commands.paper_plan import paper_stages
from rlhf_rm.errors import UserError
from rlhf_rm.files import write_json
from rlhf_rm.reproduction.claims import CLAIMS
from rlhf_rm.reproduction.verdict import FAILS, HOLDS, UNDECIDED, UNTESTED

ROOT = Path(__file__).parents[2]
SIZE = {
    "worlds": "[1]",
    "pairs": 40,
    "base_steps": 3,
    "members": 2,
    "slices": "[1]",
    "slice_epochs": 1,
    "flipped": "[1]",
    "long_epochs": 2,
    "rounds": 2,
    "round_steps": 2,
    "over_optimised_steps": 20,
    "answers": 8,
    "climbed": 40,
    "climbed_a_step": 2,
}


def tiny(small):
    """Overrides of `paper` that make it as small as it gets."""
    kinds = {
        "all": {
            **dict(one.split("=", 1) for one in small),
            "loader.batch_size": 4,
            "sampling.max_new_tokens": 8,
            "trainer.precision": "32-true",
            "callbacks.checkpoint.every_n_steps": 1,
        },
        "slice": {"loader.batch_size": 2},
        "contrastive": {"data.train_pairs": 40, "loader.batch_size": 4},
        "meta": {"meta.held_out": 0.3},
    }
    kinds["all"] |= {"data.train_pairs": 40, "data.validation_pairs": 10}
    told = [f"reproduction.sizes.small.{name}={value}" for name, value in SIZE.items()]
    for kind, keys in kinds.items():
        inside = ",".join(f"{key}: {value}" for key, value in keys.items())
        told.append(f"+reproduction.{kind}={{{inside}}}")
    return told


def stages(overrides, root):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("paper", overrides)
    settings = OmegaConf.to_container(cfg.reproduction, resolve=True)
    return {stage.name: stage for stage in paper_stages(settings, root)}


def states(plan):
    lines = [line.split("] ")[1] for line in plan.splitlines() if line.startswith("[")]
    return dict(line.split(": ", 1) for line in lines)


def test_the_plan_has_every_step_of_every_world_and_says_what_is_done(rlhf_rm, tmp_path):
    run = tmp_path / "run"
    asked = ["dry_run=true", f"hydra.run.dir={run}"]
    plan = rlhf_rm("paper", *asked)
    assert plan.code == 0, plan.err
    found = states(plan.out)
    assert set(found.values()) == {"to do"} and len(found) == 3 * 17
    steps = {name.split("/")[1] for name in found}
    assert {"members", "vote", "plain", "denoised", "slice_01", "slice_01_flipped", "slice_10"} <= steps
    assert {"simcse_pairs", "simcse_pairs_shifted", "over_optimised", "vanilla", "meta"} <= steps
    assert not list(run.glob("world_*"))
    planned = stages([], run)
    members, vote = planned["world_21/members"], planned["world_21/vote"]
    members.begin(run)
    assert states(rlhf_rm("paper", *asked).out)["world_21/members"] == "interrupted"
    (run / "world_21/members/export").mkdir()
    (run / "world_21/members/export/weights").write_text("1")
    for name in ("metrics.json", "metrics.csv"):
        (run / "world_21/members" / name).write_text("{}")
    members.finish(run, 1.0)
    vote.begin(run)
    found = states(rlhf_rm("paper", *asked).out)
    assert found["world_21/vote"] == "interrupted" and found["world_21/plain"] == "to do"
    assert found["world_21/members"].startswith("done")
    changed = states(rlhf_rm("paper", *asked, "reproduction.sizes.small.members=3").out)
    assert changed["world_21/members"] == "outdated" and changed["world_22/members"] == "to do"


def test_every_step_is_told_what_its_part_of_the_paper_needs(tmp_path):
    steps = stages([], tmp_path)
    plain, denoised = steps["world_22/plain"], steps["world_22/denoised"]
    assert {"data.seed=22", "seed=22", "data.flip_rate=0.2", "trainer.max_epochs=8"} <= set(plain.overrides)
    assert set(plain.overrides) ^ set(denoised.overrides) == {"denoise=none", "denoise=vote_target"}
    assert "seed=1022" in steps["world_22/members"].overrides  # no voter is a model that is trained on it
    flipped = set(steps["world_22/slice_01_flipped"].overrides) - set(steps["world_22/slice_01"].overrides)
    assert flipped == {"denoise.recipe.steps.slice.flip=true"}
    assert "denoise.recipe.steps.slice.number=0" in steps["world_22/slice_01"].overrides  # the weakest
    assert all("resume=auto" in step.overrides for step in steps.values() if step.command == "train")
    assert "data.flip_rate=0.2" not in steps["world_22/simcse_pairs"].overrides
    meta, vanilla = set(steps["world_22/meta"].overrides), set(steps["world_22/vanilla"].overrides)
    assert {one.split("=")[0] for one in meta ^ vanilla} <= {
        "method",
        "sampled.prompts",
        "meta.prompts",
        "meta.ascent.kind",
        "meta.ascent.radius",
    }
    assert "reward_init=anew" in meta & vanilla
    for step in steps.values():
        keys = [one.split("=")[0] for one in step.overrides]
        assert len(set(keys)) == len(keys), step.name
    full = stages(["size=full"], tmp_path)
    assert len(full) == 5 * 29 and "world_25/swav_difference_shifted" in full


def test_train_refuses_the_experiment_that_is_many_trainings():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", ["experiment=paper_synthetic"])
    with pytest.raises(UserError, match="many trainings: use `rlhf-rm paper`"):
        check_config(cfg)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (["size=big"], "size=big is unknown: use one of small, full"),
        (
            ["reproduction.sizes.small.worlds=[1,1]"],
            "worlds=[1, 1] must name at least one seed, and each once",
        ),
        (["jobs=0"], "jobs=0 must be a whole number of at least 1"),
    ],
)
def test_bad_input_ends_with_a_sentence(rlhf_rm, told, says):
    ended = rlhf_rm("paper", *told, "dry_run=true")
    assert ended.code == 2 and says in ended.err, ended.err


@pytest.mark.slow
def test_a_step_that_fails_says_which_and_where_its_words_are(rlhf_rm, small, tmp_path):
    broken = ["+reproduction.all={optimizer.lr: 0}", "+reproduction.reward={optimizer.lr: 0}"]
    run = tmp_path / "run"
    ended = rlhf_rm("paper", *tiny(small), *broken, "jobs=1", f"hydra.run.dir={run}")
    log = run / "world_1/meta/output.log"
    assert ended.code == 2 and f"world_1/meta failed with exit code 2; what it said is in {log}" in ended.err
    assert "optimizer.lr=0 must be a number above 0" in log.read_text()
    assert "What the other steps measured is in" in ended.err
    verdicts = {
        one["name"]: one["verdict"] for one in json.loads((run / "results.json").read_text())["claims"]
    }
    assert verdicts["MetaRM against SFT"] == "not tested" and "not decided" in verdicts.values()
    assert "this size does not measure it" in (run / "results.md").read_text()


def test_what_steps_left_that_are_not_done_is_not_on_the_page(rlhf_rm, tmp_path, monkeypatch):
    def fails(*args):
        raise UserError("world_21/members failed with exit code 1.")

    monkeypatch.setattr("rlhf_rm.commands.paper.side_by_side", fails)
    for name, accuracy in (("plain", 0.7), ("denoised", 0.9)):
        directory = tmp_path / "world_21" / name
        before = {"key": "of other settings", "leaves": {}, "seconds": 5.0}
        measured = {"sets": {"test": {"accuracy": accuracy}}, "validation": {}}
        files = {"inputs.json": before, "manifest.json": before, "metrics.json": measured}
        for file, content in files.items():
            write_json(directory / file, content)
    ended = rlhf_rm("paper", f"hydra.run.dir={tmp_path}")
    assert ended.code == 2 and "members failed with exit code 1. What the other steps measured" in ended.err
    results = json.loads((tmp_path / "results.json").read_text())
    assert all(part["found"] is None for claim in results["claims"] for part in claim["parts"])
    assert results["making"]["seconds"] == {}


def start(told, cache, log):
    env = os.environ | {"PYTHONPATH": str(ROOT), "RLHF_RM_CACHE": cache, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "rlhf_rm.cli", "paper", *told]
    # A group of its own, so that the steps can be killed with it.
    return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=env, start_new_session=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_in_the_middle_it_goes_on_and_ends_with_a_verdict_on_every_claim(small, tmp_path, cache):
    run, page = tmp_path / "run", tmp_path / "results.md"
    told = [*tiny(small), "jobs=1", f"hydra.run.dir={run}", f"output={page}"]
    with (tmp_path / "log").open("w") as log:
        process = start(told, cache, log)
        until = time.monotonic() + 500
        while not (run / "world_1/plain/checkpoints").is_dir() and time.monotonic() < until:
            assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        assert not page.exists()
        done = {path: path.stat().st_mtime_ns for path in run.glob("world_1/*/manifest.json")}
        assert {path.parent.name for path in done} == {"meta", "vanilla", "members", "vote"}
        assert start(told, cache, log).wait(timeout=550) == 0, (tmp_path / "log").read_text()[-3000:]
    assert "world_1/plain, going on" in (tmp_path / "log").read_text()
    assert {path: path.stat().st_mtime_ns for path in done} == done
    results = json.loads((run / "results.json").read_text())
    verdicts = {one["name"]: one["verdict"] for one in results["claims"]}
    assert set(verdicts) == {claim.name for claim in CLAIMS}
    assert set(verdicts.values()) <= {HOLDS, FAILS, UNDECIDED, UNTESTED}
    # One world has no interval, and nothing that ran is missing.
    ran = {name for name, verdict in verdicts.items() if verdict == UNDECIDED}
    assert {claim.name for claim in CLAIMS if claim.parts} - ran == {
        # These need tenths that only a larger size trains on.
        *("weakest tenth flipped", "order of the tenths", "strongest tenth alone"),
        *(f"{name} {where}" for name in ("simcse_difference", "swav_pairs", "swav_difference")
          for where in ("in distribution", "out of distribution")),
    }  # fmt: skip
    text = page.read_text()
    assert all(claim.says in text for claim in CLAIMS) and "rlhf-rm paper" in text
    assert results["making"]["seconds"]["meta"] > 0
