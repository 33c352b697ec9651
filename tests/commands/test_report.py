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
    assert flip["seeds"] == ["1/0", "2/0"] and flip["metrics"]["accuracy"]["seeds"] == 2
    files = [runs / str(job) / "metrics.json" for job in range(4)]
    a, b, c, d = (json.loads(file.read_text())["sets"]["test"]["accuracy"] for file in files)
    assert flip["against_baseline"]["accuracy"]["mean"] == pytest.approx((c + d - a - b) / 2)
    assert none["metrics"]["best val/accuracy_gold"]["mean"] >= none["metrics"]["val/accuracy_gold"]["mean"]
    pngs = {path.name for path in (tmp_path / "report").glob("*.png")}
    assert {"accuracy.png", "val_accuracy_gold_curves.png", "val_loss_curves.png", "length.png"} <= pngs
    assert {path.removesuffix(".png") for path in pngs} == report["figures"].keys()
    assert (tmp_path / "report/report.html").read_text().count("<img ") == len(pngs)
    curve = report["figures"]["val_accuracy_gold_curves"]["groups"][1]
    assert curve["mean"][-1] == pytest.approx(flip["metrics"]["val/accuracy_gold"]["mean"])
    assert "accuracy − none" in ended.out


def test_deciles_are_drawn_by_slice(rlhf_rm, sweep, tmp_path):
    # The strongest and the weakest alone: each of the twenty of a seed is a whole training.
    few = "hydra.sweeper.params={denoise.recipe.steps.slice.number:'0,9',seed:'1'}"
    runs = sweep("deciles", few, "loader.batch_size=2", "trainer.max_steps=1")
    ended = rlhf_rm("report", f"inputs={runs}/*", f"hydra.run.dir={tmp_path}/report")
    assert ended.code == 0, ended.err
    assert (tmp_path / "report/slices.png").is_file()
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert len(report["groups"]) == 4 and report["groups"][0]["name"] == "number=0, flip=False"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["inputs=nothing/*"], "inputs=nothing/* matches no directory: give a run (metrics.json), a vote"),
        (["inputs=null"], "inputs=None names no directory: give a run (metrics.json), a vote"),
        (["inputs=[]"], "inputs=[] names no directory: give a run"),
        (["inputs=[true]"], "inputs=[True] names no directory: give a run"),
        (["inputs=3"], "inputs=3 matches no directory: give a run (metrics.json), a vote"),
        (["inputs={unfinished}"], "none of the 1 runs and rounds that inputs names is finished"),
        (["inputs={damaged}"], "damaged/metrics.json is damaged and cannot be read"),
        (["inputs={damaged}/empty"], "damaged/empty names nothing that a report reads"),
    ],
)
def test_bad_input_is_one_sentence(rlhf_rm, tmp_path, overrides, message):
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished/config.yaml").touch()
    (tmp_path / "damaged/empty").mkdir(parents=True)
    (tmp_path / "damaged/metrics.json").write_text('{"sets": {')
    places = {name: tmp_path / name for name in ("unfinished", "damaged")}
    ended = rlhf_rm("report", *(one.format(**places) for one in overrides))
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
    pngs = {path.name for path in (tmp_path / "report").glob("*.png")}
    assert names == {name for name in pngs if not name.startswith("run_")}
    assert {f"run_{rate}_gold_against_proxy.png" for rate in ("0_001", "0_0001")} <= pngs


def test_a_single_run_shows_its_worst_pairs_as_text(rlhf_rm, small, tmp_path):
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    rows = [{"prompt": f"{i} {evil}", "chosen": f"a {i % 7} {evil}", "rejected": f"b {i}"} for i in range(80)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = ["data=jsonl", f"data.path={tmp_path}/pairs.jsonl", "method=contrastive"]
    told += ["contrastive=simcse_pairs", *(one for one in small if not one.startswith("data."))]
    ended = rlhf_rm("train", *told, f"hydra.run.dir={tmp_path}/one")
    assert ended.code == 0, ended.err
    ended = rlhf_rm("report", f"inputs={tmp_path}/one", f"hydra.run.dir={tmp_path}/report")
    assert ended.code == 0, ended.err
    page = (tmp_path / "report/report.html").read_text()
    assert "<script" not in page and "<img src=x" not in page
    assert page.count("&lt;script&gt;alert(1)") > 20
    report = json.loads((tmp_path / "report/report.json").read_text())
    test = json.loads((tmp_path / "one/metrics.json").read_text())["sets"]["test"]
    margins = report["figures"]["run_one_test_margins"]
    assert margins["accuracy"] == test["accuracy"] and margins["pairs"] == test["pairs"]
    assert report["figures"]["run_one_test_reliability"]["ece"] == pytest.approx(test["ece"])
    for panel in ("responses_before", "responses_after", "differences_before", "differences_after"):
        assert (tmp_path / f"report/run_one_{panel}.png").is_file()
