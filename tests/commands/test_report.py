"""Experiments from one command to their table and figures."""

import json

import pytest


@pytest.fixture
def sweep(rlhf_rm, small, world_strengths, tmp_path):
    def sweep(experiment, *overrides):
        directory = tmp_path / experiment
        told = [f"experiment={experiment}", f"denoise.strengths={world_strengths}", *small, *overrides]
        ended = rlhf_rm("train", *told, f"hydra.sweep.dir={directory}")
        assert ended.code == 0, ended.err
        return directory

    return sweep


def test_denoising_ends_in_a_table_with_paired_differences_and_curves(rlhf_rm, sweep, tmp_path):
    runs = sweep("denoise", "hydra.sweeper.params.denoise='none,flip'", "hydra.sweeper.params.seed='1,2'")
    ended = rlhf_rm("report", f"inputs={runs}", "baseline=none", f"hydra.run.dir={tmp_path}/report")
    assert ended.code == 0, ended.err
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["runs"] == 4 and [group["name"] for group in report["groups"]] == ["none", "flip"]
    none, flip = report["groups"]
    assert flip["seeds"] == ["1/", "2/"] and flip["metrics"]["accuracy"]["seeds"] == 2
    files = [runs / str(job) / "metrics.json" for job in range(4)]
    a, b, c, d = (json.loads(file.read_text())["sets"]["test"]["accuracy"] for file in files)
    assert flip["against_baseline"]["accuracy"]["mean"] == pytest.approx((c + d - a - b) / 2)
    assert none["metrics"]["best val/accuracy_gold"]["mean"] >= none["metrics"]["val/accuracy_gold"]["mean"]
    pngs = {path.name for path in (tmp_path / "report").glob("*.png")}
    assert {"accuracy.png", "val_accuracy_gold_curves.png", "val_loss_curves.png"} <= pngs
    assert (tmp_path / "report/report.html").read_text().count("data:image/png") == len(pngs)
    assert "accuracy − none" in ended.out


def test_deciles_are_drawn_by_slice(rlhf_rm, sweep, tmp_path):
    few = ["hydra.sweeper.params.seed='1'", "loader.batch_size=2", "trainer.max_steps=1"]
    runs = sweep("deciles", *few)
    ended = rlhf_rm("report", f"inputs={runs}/*", f"hydra.run.dir={tmp_path}/report")
    assert ended.code == 0, ended.err
    assert (tmp_path / "report/slices.png").is_file()
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert len(report["groups"]) == 20 and report["groups"][0]["name"] == "number=0, flip=False"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["inputs=nothing/*"], "inputs=nothing/* names no run directory"),
        (["inputs={unfinished}"], "none of the 1 directories holds a finished run"),
    ],
)
def test_bad_input_is_one_sentence(rlhf_rm, tmp_path, overrides, message):
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished/config.yaml").touch()
    ended = rlhf_rm("report", *(one.format(unfinished=tmp_path / "unfinished") for one in overrides))
    assert ended.code == 2 and message in ended.err and ended.err.count("\n") == 1


def test_policies_are_compared_by_gold_with_their_curves(rlhf_rm, small, tmp_path):
    ppo = ["method=ppo", "sampling.max_new_tokens=8", "trainer.log_every_n_steps=1", "optimizer.lr=1e-3,1e-4"]
    ended = rlhf_rm("train", "-m", *small, *ppo, f"hydra.sweep.dir={tmp_path}/runs")
    assert ended.code == 0, ended.err
    ended = rlhf_rm("report", f"inputs={tmp_path}/runs", f"hydra.run.dir={tmp_path}/report")
    assert ended.code == 0, ended.err
    report = json.loads((tmp_path / "report/report.json").read_text())
    for job, group in enumerate(report["groups"]):
        measured = json.loads((tmp_path / f"runs/{job}/metrics.json").read_text())["sets"]["test"]
        assert group["metrics"]["gold"]["mean"] == pytest.approx(measured["gold"])
    names = {"gold.png", "train_gold_curves.png", "train_reward_curves.png", "train_kl_curves.png"}
    assert names == {path.name for path in (tmp_path / "report").glob("*.png")}
