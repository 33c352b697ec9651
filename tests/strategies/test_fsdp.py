"""FSDP2 on two processes against one: each runs as many passes as the other, however its pairs fall."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlhf_rm.callbacks.checkpoint import checkpoints
from rlhf_rm.data.preference import PreferenceDataModule
from rlhf_rm.data.sampling import StepSampler

ROOT = Path(__file__).resolve().parents[2]

SMALL = {"row_tokens": 85, "micro_tokens": 85}  # most pairs of two fill a pass each, and some share one


def run_of(directory, ranks, **changes):
    """12 steps with 4 pairs each; on two ranks a step is several passes, and not as many on each."""
    directory.mkdir()
    return {
        "directory": str(directory),
        "source": {"train": 26, "validation": 7, "test": 7},
        "data": {"batch_size": 4 // ranks, **(SMALL if ranks == 2 else {"micro_tokens": 9999})},
        "module": {"optimizer": "SGD", "lr": 0.002, "gradient_clip": None},
        "devices": ranks,
        "strategy": "fsdp" if ranks == 2 else "auto",
        "max_epochs": 2,
        "val_check_interval": 0.5,
        "every_n_steps": 5,
        "weighted": True,
        "test": True,
        **changes,
    }


def watched(run):
    return json.loads((Path(run["directory"]) / "watched.json").read_text())


def test_ranks_have_steps_of_different_numbers_of_passes(tiny):
    """What the tests below rely on."""
    data = tiny.LOADING | SMALL | {"batch_size": 2}
    split = PreferenceDataModule(tiny.Source(train=26), tiny.make_tokenizer(), **data).split("train")
    passes = [
        [
            len(split.step(pairs))
            for pairs in StepSampler(split.sizes, batch_size=2, seed=data["seed"], rank=r, world_size=2)
        ]
        for r in (0, 1)
    ]
    assert passes[0] != passes[1]


def test_two_ranks_with_a_share_of_the_weights_equal_one_with_all(tiny, tmp_path):
    clipped = {"module": {"optimizer": "AdamW", "lr": 0.002, "gradient_clip": 0.5}, "val_check_interval": 1.0}
    names = {"plain": {}, "clipped": clipped}
    one = {name: run_of(tmp_path / f"{name}_1", 1, **more) for name, more in names.items()}
    two = {name: run_of(tmp_path / f"{name}_2", 2, **more) for name, more in names.items()}
    tiny.in_a_process(list(two.values()))
    tiny.main([dict(run) for run in one.values()])
    for name in names:
        tiny.assert_same_run(one[name]["directory"], two[name]["directory"], steps=12)
        single, double = watched(one[name]), watched(two[name])
        assert torch.allclose(*(torch.tensor(w["validations"]) for w in (single, double)), atol=1e-5)
        assert double["test_index"] == single["test_index"] == list(range(7))


def test_a_run_goes_on_with_another_number_of_ranks_and_strategy(tiny, tmp_path):
    adam = {"module": {"optimizer": "AdamW", "lr": 0.002, "gradient_clip": None}}
    whole = run_of(tmp_path / "whole", 1, **adam)
    first = run_of(tmp_path / "first", 2, test=False, watch={"sigterm_after": 5}, **adam)
    tiny.main([dict(whole)])
    tiny.in_a_process([first])
    (middle,) = checkpoints(tmp_path / "first")
    assert middle.name == "step_00000005.ckpt"
    alone = run_of(tmp_path / "alone", 1, **adam, resume=str(middle))
    again = run_of(tmp_path / "again", 2, **adam, resume=str(tmp_path / "whole" / "step_00000005.ckpt"))
    tiny.main([dict(alone)])
    tiny.in_a_process([again])
    for run in (alone, again):
        ours, theirs = (torch.load(Path(r["directory"]) / "weights.pt") for r in (run, whole))
        for name, value in theirs.items():
            assert torch.allclose(ours[name], value, atol=1e-5), name


def test_metarm_climbs_in_shards(tiny, tmp_path):
    tiny.write_responses(tmp_path / "responses.jsonl")
    meta = {"responses": str(tmp_path / "responses.jsonl")}
    one, two = (
        run_of(
            tmp_path / str(ranks),
            ranks,
            test=False,
            max_epochs=1,
            meta={"data": meta | {"prompts": 4 // ranks}},
        )
        for ranks in (1, 2)
    )
    tiny.in_a_process([two])
    tiny.main([dict(one)])
    tiny.assert_same_run(one["directory"], two["directory"], steps=6)


def train(cache, run, *overrides):
    ended = subprocess.run(
        [sys.executable, "train.py", f"hydra.run.dir={run}", *overrides],
        cwd=ROOT,
        env=os.environ | {"RLHF_RM_CACHE": cache},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def test_a_sharded_run_is_tested_and_exported_whole_with_its_best_weights(rlhf_rm, small, cache, tmp_path):
    said = train(cache, tmp_path / "run", "strategy=fsdp", "trainer.devices=2", "callbacks=best", *small)
    assert "at step 2: its weights are tested and exported" in said  # of 4
    kept = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    exported = load_file(tmp_path / "run/export/model.safetensors")
    assert {f"model.network.{name}" for name in exported} <= kept.keys()
    assert all(torch.equal(value, kept[f"model.network.{name}"]) for name, value in exported.items())
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["ranks"] == 2
    ended = rlhf_rm("evaluate", f"run={tmp_path}/run", f"hydra.run.dir={tmp_path}/evaluation")
    assert ended.code == 0, ended.err
    (told,) = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())["sets"].values()
    assert told["accuracy"] == metrics["sets"]["test"]["accuracy"]
    assert told["mean_margin"] == pytest.approx(metrics["sets"]["test"]["mean_margin"], abs=1e-4)


def test_adapters_in_shards_go_on_from_what_alone_is_trained(small, cache, tmp_path):
    lora = ["adapter=lora", *small]
    train(cache, tmp_path / "run", "strategy=fsdp", "trainer.devices=2", *lora)
    kept = torch.load(checkpoints(tmp_path / "run/checkpoints")[-1], weights_only=True)["state_dict"]
    assert kept and all(".lora_" in name or ".score." in name for name in kept)
    more = ["trainer.max_epochs=-1", "trainer.max_steps=6", "resume=auto"]
    train(cache, tmp_path / "run", "strategy=fsdp", "trainer.devices=2", *lora, *more)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["steps"] == 6


REFUSED = {
    "sft": ["method=sft"],
    "ppo": ["method=ppo"],
    "ensemble": ["method=ensemble"],
    "contrastive": ["method=contrastive", "contrastive=simcse_pairs"],
    "meta_contrastive": ["method=meta_contrastive", "contrastive=simcse_pairs"],
    "qlora": ["adapter=qlora"],
}


@pytest.mark.parametrize("overrides", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_sharded_is_refused_before_anything_is_made(
    overrides, rlhf_rm, small, tmp_path, monkeypatch
):
    monkeypatch.setenv("RLHF_RM_CACHE", str(tmp_path / "cache"))
    ended = rlhf_rm("train", *overrides, "strategy=fsdp", *small)
    assert ended.code == 2
    assert "use strategy=ddp" in ended.err
    assert not (tmp_path / "cache").exists()
