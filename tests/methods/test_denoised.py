"""Training on denoised labels, from the command line and step by step."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rlhf_rm.data.batch import Step
from rlhf_rm.data.denoised import DenoisedDataModule
from rlhf_rm.data.strengths import from_members, write_strengths
from rlhf_rm.denoise.base import Recipe
from rlhf_rm.denoise.drop import Drop
from rlhf_rm.denoise.flip import Flip
from rlhf_rm.denoise.select import Select
from rlhf_rm.methods.denoised import DenoisedRewardModule, ranked_right
from rlhf_rm.methods.reward import RewardModule


@pytest.fixture
def strengths(tiny, tmp_path):
    """Strengths of the tiny source's training pairs: the k-th pair has strength k - 6."""
    pairs = tiny.Source().pairs("train")
    members = np.arange(len(pairs), dtype=float)[None] - 6 + np.array([[-0.5], [0.5]])
    write_strengths(tmp_path / "vote", from_members([pair.pair_id for pair in pairs], members))
    return str(tmp_path / "vote")


@pytest.fixture
def datamodule(tiny, strengths):
    def make(*steps):
        recipe = Recipe({str(i): step for i, step in enumerate(steps)})
        return DenoisedDataModule(
            tiny.Source(), tiny.make_tokenizer(), strengths=strengths, recipe=recipe, **tiny.LOADING
        )

    return make


def tokens(split, indices):
    """The token ids of each pair's chosen and rejected response, by their pair's number."""
    found = {}
    for batch in split.step(indices):
        for name in ("chosen_B", "rejected_B"):
            for index, response in zip(batch.index_B.tolist(), getattr(batch, name).tolist(), strict=True):
                found[index, name] = int(batch.rows.length_N[response])
    return found


def test_a_flipped_pair_is_served_the_other_way_round(datamodule):
    plain, flipped = datamodule().split("train"), datamodule(Flip(Select(weaker_than=-3.0))).split("train")
    before, after = tokens(plain, range(24)), tokens(flipped, range(24))
    for index in range(24):
        chosen, rejected = ("chosen_B", "rejected_B") if index >= 3 else ("rejected_B", "chosen_B")
        assert after[index, "chosen_B"] == before[index, chosen]
        assert after[index, "rejected_B"] == before[index, rejected]


def test_what_is_dropped_is_never_served_and_not_said_to_be_trained_on(datamodule):
    data = datamodule(Drop(Select(below=0.25)))
    split = data.split("train")
    assert len(split.sizes) == 18
    assert {index for index, _ in tokens(split, range(18))} == set(range(6, 24))
    assert len(data.trained_on()) == 18 and data.trained_on() == split.column("pair_id")[6:]
    assert data.report()["denoise"].items() >= {"kept": 18, "flipped": 0}.items()


def test_only_training_pairs_are_changed(datamodule):
    data = datamodule(Flip(Select()))
    assert data.split("train").labels.swap.all()
    assert not data.split("validation").labels.swap.any()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_equal_one_process_with_twice_the_batch(strategy, tiny, strengths, tmp_path):
    runs = []
    for ranks in (1, 2):
        (tmp_path / str(ranks)).mkdir()
        runs.append(
            {
                "directory": str(tmp_path / str(ranks)),
                "data": {"batch_size": 4 // ranks, "micro_tokens": 90 if ranks == 2 else 9999},
                "module": {"optimizer": "SGD", "lr": 0.002, "gradient_clip": None},
                "strengths": strengths,
                "devices": ranks,
                "strategy": strategy if ranks == 2 else "auto",
                "every_n_steps": 99,
            }
        )
    tiny.in_a_process(runs[1:])
    tiny.main([dict(runs[0])])
    tiny.assert_same_run(runs[0]["directory"], runs[1]["directory"], steps=6)
    logged = []
    for run in runs:
        with (tmp_path / run["directory"] / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        names = [name for name in rows[0] if "accuracy_by_strength" in name]
        logged.append({name: [float(row[name]) for row in rows if row[name]] for name in names})
    assert logged[0] == logged[1] and len(logged[0]) == 10


@pytest.fixture
def logged(tiny, tmp_path, monkeypatch):
    """What is logged by strength, of training pairs with these strengths and these reward differences."""
    monkeypatch.setattr(RewardModule, "on_validation_epoch_end", lambda module: None)

    def accuracies(strength, difference, *steps):
        source = tiny.Source(train=len(strength))
        pair_ids = [pair.pair_id for pair in source.pairs("train")]
        write_strengths(tmp_path / "vote", from_members(pair_ids, np.array([strength, strength])))
        told = {
            "strengths": str(tmp_path / "vote"),
            "recipe": Recipe({str(i): s for i, s in enumerate(steps)}),
        }
        data = DenoisedDataModule(source, tiny.make_tokenizer(), **told, **tiny.LOADING)
        module = tiny.make_denoised(tiny.make_module(tiny.make_model(data.tokenizer)))
        strategy = SimpleNamespace(reduce=lambda value, **_: value)
        module._trainer = SimpleNamespace(datamodule=data, strategy=strategy)
        found = {}
        module.log = lambda name, value, **_: found.update({name: float(value)})
        module.on_fit_start()
        for served in torch.randperm(len(strength)).split(7):
            passes = Step(tuple(SimpleNamespace(index_B=index_B) for index_B in served.split(4)))
            module.log_differences(passes, torch.from_numpy(difference)[served])
        module.on_validation_epoch_end()
        return {name: value for name, value in found.items() if "by_strength" in name}

    return accuracies


def test_each_pair_counts_in_the_tenth_of_its_strength_against_its_own_label(logged):
    place = np.random.default_rng(0).permutation(100).astype(float)  # of each pair, the weakest first
    right = place % 10 < place // 10  # none of the weakest tenth, one of the next, …
    trained = np.where(right, 1.0, -1.0) * np.where(place < 30, -1.0, 1.0)
    assert logged(place - 40, trained, Flip(Select(below=0.3))) == {
        f"train/accuracy_by_strength/{i + 1:02d}": pytest.approx(i / 10) for i in range(10)
    }


def test_pairs_of_equal_strength_count_in_one_bin(logged):
    difference = np.array([1.0, -1.0, -1.0, -1.0] * 5)
    assert logged(np.zeros(20), difference) == {"train/accuracy_by_strength/06": 0.25}


def test_a_tie_is_wrong_on_either_side():
    difference, swap = torch.tensor([1.0, 0.0, -1.0] * 2), torch.tensor([False] * 3 + [True] * 3)
    assert ranked_right(difference, swap).tolist() == [True, False, False, False, False, True]


def test_counts_of_all_ranks_are_taken_back_by_the_first(tiny):
    plain = tiny.make_module(tiny.make_model(tiny.make_tokenizer()))
    for rank, expected in ((0, [[1.0] * 10, [2.0] * 10]), (1, [[0.0] * 10, [0.0] * 10])):
        module = DenoisedRewardModule(
            plain.model, plain.loss, plain.optimizer_factory, plain.scheduler_factory, 1.0, 0.0
        )
        module._trainer = SimpleNamespace(global_rank=rank, strategy=SimpleNamespace(reduce=lambda x, **_: x))
        module.on_load_checkpoint({"by_strength": torch.tensor([[1.0] * 10, [2.0] * 10])})
        kept = {"state_dict": {}}
        module.on_save_checkpoint(kept)
        assert kept["by_strength"].tolist() == expected


@pytest.fixture
def gold(world_strengths):
    return f"denoise.strengths={world_strengths}"


def test_a_run_logs_by_strength_and_says_what_the_recipe_did(rlhf_rm, small, tmp_path, gold):
    run = tmp_path / "run"
    ended = rlhf_rm(
        "train",
        *small,
        "method=denoised",
        "denoise=flip_margin",
        gold,
        f"hydra.run.dir={run}",
        "trainer.max_steps=10",
    )
    assert ended.code == 0, ended.err
    denoised = json.loads((run / "metrics.json").read_text())["data"]["denoise"]
    assert denoised["kept"] == 40 and denoised["flipped"] == 4 and denoised["mean_margin"] > 0
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith("train/accuracy_by_strength/")]
    assert names == [f"train/accuracy_by_strength/{i:02d}" for i in range(1, 11)]
    assert "40 pairs kept of 40, 4 flipped" in ended.out


def test_flipping_every_pair_unlearns_what_the_labels_say(tiny, datamodule):
    import lightning as L

    def accuracies(*steps):
        data = datamodule(*steps)
        plain = tiny.make_module(tiny.make_model(data.tokenizer), lr=2e-2)
        module = DenoisedRewardModule(
            plain.model, plain.loss, plain.optimizer_factory, plain.scheduler_factory, 1.0, 0.0
        )
        trainer = L.Trainer(
            max_epochs=12,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            barebones=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(module, datamodule=data)
        named = trainer.callback_metrics
        by_strength = [float(named[f"train/accuracy_by_strength/{i:02d}"]) for i in range(1, 11)]
        return by_strength, float(named["val/accuracy"])

    torch.manual_seed(0)
    by_strength, validation = accuracies()
    flipped_by_strength, flipped_validation = accuracies(Flip(Select()))
    assert np.mean(by_strength) > 0.8
    assert np.mean(flipped_by_strength) < 0.2
    assert validation > flipped_validation


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=sft", "denoise=flip"], "which this method does not read: leave it out"),
        (["method=denoised"], "method=denoised needs a recipe: add denoise=flip"),
        (["method=denoised", "denoise=flip"], "add denoise.strengths=DIR, the directory of a vote"),
        (["method=denoised", "denoise=flip", "denoise.strengths=/no/such"], "/no/such is no strengths file"),
        (["method=denoised", "denoise=flip", "denoise.strengths=published"], "has no strengths of its own"),
    ],
)
def test_bad_input_is_one_sentence(rlhf_rm, small, overrides, message):
    ended = rlhf_rm("train", *small, *overrides)
    assert ended.code == 2 and message in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("denoise", "setting"),
    [("drop", "drop.where.below=null"), ("slice", "slice.number=0.5"), ("margin", "margin.scale=nan")],
)
def test_a_bad_setting_of_a_recipe_is_one_sentence(rlhf_rm, small, gold, denoise, setting):
    setting = f"denoise.recipe.steps.{setting}"
    ended = rlhf_rm("train", *small, "method=denoised", f"denoise={denoise}", gold, setting)
    assert ended.code == 2 and f"Error: {setting} must be a" in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("method", [["method=reward"], ["method=ensemble", "members.size=2"]])
def test_a_recipe_goes_with_every_method_that_reads_preferences(rlhf_rm, small, gold, tmp_path, method):
    ended = rlhf_rm("train", *small, *method, "denoise=flip", gold, f"hydra.run.dir={tmp_path}/run")
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "run/metrics.json").read_text())["data"]["denoise"]["flipped"] == 4


def test_strengths_of_other_data_are_refused(rlhf_rm, small, gold):
    ended = rlhf_rm("train", *small, "method=denoised", "denoise=flip", gold, "data.seed=1")
    assert ended.code == 2 and "40 of 40 training pairs have no strength, the first of them" in ended.err


def test_a_margin_that_the_loss_would_ignore_is_refused(rlhf_rm, small, gold):
    recipe = ["method=denoised", "denoise=margin", gold]
    ended = rlhf_rm("train", *small, *recipe, "loss=logexp")
    assert ended.code == 2 and "has a margin column that LogExpLoss does not read" in ended.err


def test_a_run_does_not_go_on_with_other_labels(rlhf_rm, small, gold, tmp_path):
    told = [*small, "method=denoised", gold, "callbacks.checkpoint.every_n_steps=2"]
    assert rlhf_rm("train", *told, "denoise=flip", f"hydra.run.dir={tmp_path}/run").code == 0
    first = tmp_path / "run/checkpoints/step_00000002.ckpt"
    resume = [f"resume={first}", f"hydra.run.dir={tmp_path}/part"]
    ended = rlhf_rm("train", *told, "denoise=soft", *resume)
    assert ended.code == 2 and "was made with other labels" in ended.err
    again = rlhf_rm("train", *told, "denoise=flip", *resume)
    assert again.code == 0, again.err
    weights = "export/model.safetensors"
    assert (tmp_path / "part" / weights).read_bytes() == (tmp_path / "run" / weights).read_bytes()
    counts = [by_strength(tmp_path / name / "metrics.csv") for name in ("run", "part")]
    assert counts[0] == counts[1] and counts[0]


def by_strength(file):
    """The accuracies by strength that were logged after the second step."""
    with file.open() as opened:
        rows = [row for row in csv.DictReader(opened) if int(row["step"]) > 2]
    return [value for row in rows for name, value in row.items() if "by_strength" in name and value]
