"""FSDP2 on two processes against one: each runs as many passes as the other, however its pairs fall."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh

from rlhf_rm.callbacks.checkpoint import checkpoints, damage
from rlhf_rm.commands.checks import check_strategy
from rlhf_rm.data.preference import PreferenceDataModule
from rlhf_rm.data.sampling import StepSampler
from rlhf_rm.errors import UserError
from rlhf_rm.models.actor_critic import ActorCritic
from rlhf_rm.models.adapter import adapted_layers
from rlhf_rm.strategies.fsdp import FSDPStrategy
from rlhf_rm.strategies.sharded_checkpoint import written_names

ROOT = Path(__file__).resolve().parents[2]


def test_ranks_have_steps_of_different_numbers_of_passes(tiny):
    """What the tests below rely on."""
    data = tiny.LOADING | tiny.SHORT_ROWS | {"batch_size": 2}
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
    one = {name: tiny.in_shards(tmp_path / f"{name}_1", 1, **more) for name, more in names.items()}
    two = {name: tiny.in_shards(tmp_path / f"{name}_2", 2, **more) for name, more in names.items()}
    tiny.in_a_process(list(two.values()))
    tiny.main([dict(run) for run in one.values()])
    for name in names:
        tiny.assert_same_run(one[name]["directory"], two[name]["directory"], steps=12)
        single, double = tiny.watched(one[name]), tiny.watched(two[name])
        assert torch.allclose(*(torch.tensor(w["validations"]) for w in (single, double)), atol=1e-5)
        assert double["test_index"] == single["test_index"] == list(range(7))


def test_a_run_goes_on_with_another_number_of_ranks_and_strategy(tiny, tmp_path):
    adam = {"module": {"optimizer": "AdamW", "lr": 0.002, "gradient_clip": None}}
    whole = tiny.in_shards(tmp_path / "whole", 1, **adam)
    first = tiny.in_shards(tmp_path / "first", 2, test=False, watch={"sigterm_after": 5}, **adam)
    tiny.main([dict(whole)])
    tiny.in_a_process([first])
    (middle,) = checkpoints(tmp_path / "first")
    assert middle.name == "step_00000005.ckpt"
    assert len(list(middle.glob("*.safetensors"))) == 2  # of each rank
    alone = tiny.in_shards(tmp_path / "alone", 1, **adam, resume=str(middle))
    of_shards = tiny.in_shards(tmp_path / "of_shards", 2, **adam, resume=str(middle))
    of_a_file = tiny.in_shards(
        tmp_path / "of_a_file", 2, **adam, resume=str(tmp_path / "whole/step_00000005.ckpt")
    )
    tiny.main([dict(alone)])
    tiny.in_a_process([of_shards, of_a_file])
    for run in (alone, of_shards, of_a_file):
        ours, theirs = (torch.load(Path(r["directory"]) / "weights.pt") for r in (run, whole))
        for name, value in theirs.items():
            assert torch.allclose(ours[name], value, atol=1e-5), name


def test_metarm_climbs_in_shards(tiny, tmp_path):
    tiny.write_responses(tmp_path / "responses.jsonl")
    meta = {"responses": str(tmp_path / "responses.jsonl")}
    one, two = (
        tiny.in_shards(
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


CONTRASTIVE = {
    "simcse": {"kind": "simcse", "items": "pairs"},
    "swav": {"kind": "swav", "items": "difference"},
}


def test_contrastive_terms_see_the_pairs_of_all_ranks(tiny, tmp_path):
    one, two = (
        [
            tiny.in_shards(tmp_path / f"{kind}_{ranks}", ranks, max_epochs=1, contrastive=contrastive)
            for kind, contrastive in CONTRASTIVE.items()
        ]
        for ranks in (1, 2)
    )
    tiny.write_responses(tmp_path / "responses.jsonl")
    for ranks, runs in ((1, one), (2, two)):
        meta = {"data": {"responses": str(tmp_path / "responses.jsonl"), "prompts": 4 // ranks}}
        both = {"contrastive": {"kind": "swav", "items": "pairs"}, "meta": meta}
        runs.append(tiny.in_shards(tmp_path / f"meta_{ranks}", ranks, max_epochs=1, test=False, **both))
    tiny.in_a_process(two)
    tiny.main([dict(run) for run in one])
    for single, double in zip(one, two, strict=True):
        tiny.assert_same_run(single["directory"], double["directory"], steps=6)


def ppo(directory, **options):
    directory.mkdir()
    told = {"directory": str(directory), "max_steps": 8, "devices": 2, "accelerator": "cpu", **options}
    ended = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "tiny_ppo.py"), json.dumps(told)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads((directory / "watched.json").read_text()), torch.load(directory / "weights.pt")


@pytest.mark.slow
def test_a_policy_in_shards_says_and_learns_what_a_whole_one_does(tmp_path):
    """Passes of ranks differ in number, within an iteration and in its steps, and so do their dialogues."""
    data = {"row_tokens": 40, "micro_tokens": 40, "texts": 3}
    options = {"data": data, "module": {"objective": {"text_weight": 0.5}}}
    whole, expected = ppo(tmp_path / "ddp", strategy="ddp", **options)
    shards, found = ppo(tmp_path / "fsdp", strategy="fsdp", **options)
    assert torch.allclose(torch.tensor(shards["seen"]), torch.tensor(whole["seen"]), atol=1e-5)
    assert len(whole["seen"]) == 8 and found.keys() == expected.keys()
    assert all(torch.allclose(found[name], value, atol=1e-5) for name, value in expected.items())
    said = [run["results"]["sets"]["test"] for run in (whole, shards)]
    assert said[0]["length"] == said[1]["length"] and said[0]["reward_reference"] != said[0]["reward"]
    assert said[0]["reward_reference"] == pytest.approx(said[1]["reward_reference"], abs=1e-5)
    resumed, _ = ppo(
        tmp_path / "again", strategy="fsdp", **options, resume=str(tmp_path / "fsdp/step_00000005.ckpt")
    )
    assert torch.allclose(torch.tensor(resumed["seen"]), torch.tensor(whole["seen"][-3:]), atol=1e-5)


def test_a_sharded_run_is_tested_and_exported_whole_with_its_best_weights(rlhf_rm, small, train, tmp_path):
    said = train(tmp_path / "run", "strategy=fsdp", "trainer.devices=2", "callbacks=best", *small)
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


def test_the_newest_whole_checkpoint_of_shards_is_gone_on_from_and_exported(rlhf_rm, small, train, tmp_path):
    sharded = [
        *small,
        "strategy=fsdp",
        "callbacks.checkpoint.every_n_steps=1",
        "trainer.val_check_interval=1.0",
    ]
    train(tmp_path / "run", *sharded, "trainer.devices=2")
    found = checkpoints(tmp_path / "run/checkpoints")
    assert all(damage(path) is None for path in found)
    shard = sorted(found[-1].glob("*.safetensors"))[1]
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    shard.write_bytes(content)
    assert damage(found[-1]) == f"of its {shard.name}: its content is not what was written"
    more = ["trainer.max_epochs=-1", "trainer.max_steps=6", "resume=auto", "trainer.devices=2"]
    said = train(tmp_path / "run", *sharded, *more)
    assert f"{found[-1]} is damaged" in said and f"Going on from {found[-2]}" in said
    ended = rlhf_rm("export", f"run={tmp_path}/run", f"output={tmp_path}/out")
    assert ended.code == 0, ended.err
    files = [load_file(at / "model.safetensors") for at in (tmp_path / "out", tmp_path / "run/export")]
    assert all(torch.equal(value, files[1][name]) for name, value in files[0].items())
    shard = next(checkpoints(tmp_path / "run/checkpoints")[-1].glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:1000])
    ended = rlhf_rm("train", *sharded, f"hydra.run.dir={tmp_path}/other", f"resume={shard.parent}")
    assert ended.code == 2 and f"{shard.parent} is damaged" in ended.err


def test_no_code_is_read_from_shards(rlhf_rm, small, tmp_path):
    made = tmp_path / "made"
    told = [*small, "strategy=fsdp", "trainer.devices=1"]
    assert rlhf_rm("train", *told, f"hydra.run.dir={made}").code == 0
    (rest,) = (checkpoints(made / "checkpoints")[-1]).glob("*.ckpt")
    (made / "checkpoints" / "manifest.json").unlink()
    torch.save({"callbacks": Path, "optimizer_groups": []}, rest)
    ended = rlhf_rm("train", *told, f"hydra.run.dir={tmp_path}/other", f"resume={rest.parent}")
    assert ended.code == 2 and "or holds code: it is not opened" in ended.err


def test_the_state_of_another_optimiser_is_not_gone_on_from(rlhf_rm, small, tmp_path):
    told = [*small, "strategy=fsdp", "trainer.devices=1"]
    assert rlhf_rm("train", *told, f"hydra.run.dir={tmp_path}/run").code == 0
    other = [
        "optimizer._target_=torch.optim.SGD",
        "optimizer.fused=false",
        "~optimizer.betas",
        "~optimizer.eps",
    ]
    more = ["trainer.max_epochs=-1", "trainer.max_steps=6", f"resume={tmp_path}/run"]
    ended = rlhf_rm("train", *told, *other, *more, f"hydra.run.dir={tmp_path}/other")
    assert ended.code == 2 and "belongs to another model" in ended.err, ended.err


@pytest.mark.slow
@pytest.mark.parametrize("method", ["reward", "sft"])
def test_adapters_in_shards_go_on_from_what_alone_is_trained(method, rlhf_rm, small, train, tmp_path):
    lora = [f"method={method}", "adapter=lora", *small]  # of sft the frozen embeddings have two names
    train(tmp_path / "run", "strategy=fsdp", "trainer.devices=2", *lora)
    kept = written_names(checkpoints(tmp_path / "run/checkpoints")[-1])
    assert kept and all(".lora_" in name or ".score." in name for name in kept)
    told = [f"run={tmp_path}/run", f"output={tmp_path}/out"]
    assert (ended := rlhf_rm("export", *told)).code == 0, ended.err
    more = ["trainer.max_epochs=-1", "trainer.max_steps=6", "resume=auto"]
    train(tmp_path / "run", "strategy=fsdp", "trainer.devices=2", *lora, *more)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["steps"] == 6


ALIKE = {
    "sft": ("loss", ["method=sft", "sampling.max_new_tokens=8"]),
    "bf16-mixed": ("loss", ["trainer.precision=bf16-mixed", "attention=eager"]),
    "contrastive": ("loss", ["method=contrastive", "contrastive=swav_pairs"]),
    "meta": ("loss", ["method=meta", "meta.made.prompts=60", "sampling.max_new_tokens=8"]),
    "ppo": ("reward", ["method=ppo", "sampling.max_new_tokens=8"]),
}


@pytest.mark.slow
@pytest.mark.parametrize(("measure", "overrides"), ALIKE.values(), ids=ALIKE)
def test_training_in_shards_is_that_of_whole_models(measure, overrides, small, train, tmp_path):
    measured = []
    for strategy in ("ddp", "fsdp"):
        run = tmp_path / strategy
        told = [*overrides, f"strategy={strategy}", "trainer.devices=2", *small]
        told += ["loader.micro_tokens=100", "loader.row_tokens=100"]
        train(run, *told)
        measured.append(json.loads((run / "metrics.json").read_text())["sets"]["test"][measure])
    assert measured[0] == pytest.approx(measured[1], abs=1e-5)
    assert len({frozenset(f.name for f in (tmp_path / one).glob("*.png")) for one in ("ddp", "fsdp")}) == 1
    weights = [load_file(tmp_path / one / "export/model.safetensors") for one in ("ddp", "fsdp")]
    assert all(torch.allclose(value, weights[1][name], atol=1e-5) for name, value in weights[0].items())


REFUSED = {
    "ensemble": (["method=ensemble"], "trains on one device: use strategy=auto"),
    "ppo_lora": (["method=ppo", "adapter=lora"], "use strategy=ddp"),
    "qlora": (["adapter=qlora"], "use strategy=ddp"),
}


@pytest.mark.parametrize(("overrides", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_sharded_is_refused_before_anything_is_made(
    overrides, says, rlhf_rm, small, tmp_path, monkeypatch
):
    monkeypatch.setenv("RLHF_RM_CACHE", str(tmp_path / "cache"))
    ended = rlhf_rm("train", *overrides, "strategy=fsdp", *small)
    assert ended.code == 2
    assert says in ended.err
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["deepspeed_stage_3", "deepspeed", "fsdp", "FSDPStrategy"])
def test_lightnings_own_shards_are_refused(name, rlhf_rm, small):
    asked = name if name.islower() else f"{{_target_: lightning.pytorch.strategies.{name}}}"
    ended = rlhf_rm("train", f"trainer.strategy={asked}", *small)
    assert ended.code == 2
    assert f"trainer.strategy={name} is not supported" in ended.err and "Use strategy=fsdp" in ended.err


class OwnShards(FSDPStrategy):
    """A strategy of a user's own."""


def test_what_holds_of_shards_holds_of_a_subclass(small):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", ["strategy=fsdp", "adapter=qlora", *small])
    cfg.trainer.strategy._target_ = f"{OwnShards.__module__}.OwnShards"
    with pytest.raises(UserError, match="which strategy=fsdp cannot shard"):
        check_strategy(cfg)
    cfg.adapter._target_ = "rlhf_rm.models.adapter.NoAdapter"
    check_strategy(cfg)


@pytest.fixture
def one_rank():
    """A process group of this process alone, and the strategy that shards over it."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    strategy = FSDPStrategy(timeout_seconds=60)
    strategy._device_mesh = init_device_mesh("cpu", (1,), mesh_dim_names=("data_parallel",))
    yield strategy
    torch.distributed.destroy_process_group()


def test_the_whole_copy_of_a_reference_leaves_its_adapters_out(one_rank, tiny, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    import tiny_ppo

    tokenizer, lora = tiny.make_tokenizer(), tiny_ppo.make_lora()
    model = ActorCritic(tiny_ppo.make_policy(tokenizer, lora), tiny.make_model(tokenizer))
    for layer in adapted_layers(model.actor).values():
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.4)
    ids = torch.tensor([[5, 6, 7, 8]])
    expected = {"actor": model.actor.network(ids).logits}
    with model.reference() as reference:
        expected["reference"] = reference.network(ids).logits
    one_rank.shard(model.actor)
    with model.reference() as reference:
        copies = {"reference": one_rank.whole_network(reference)}
    copies["actor"] = one_rank.whole_network(model.actor)
    for name, copy in copies.items():
        torch.testing.assert_close(copy(ids).logits, expected[name])
    assert (expected["actor"] - expected["reference"]).abs().max() > 0.1
