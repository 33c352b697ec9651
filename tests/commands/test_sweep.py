import csv
import io
import json
import re

import pytest

from rlhf_rm.commands import report
from rlhf_rm.commands.summary import describe
from rlhf_rm.commands.sweep import as_csv, as_text, best_job, over_seeds, read_jobs


@pytest.fixture
def sweep(tmp_path):
    """Run directories of a sweep, as Hydra and the command leave them."""

    def make(*jobs):
        for number, (overrides, results) in enumerate(jobs):
            hydra = tmp_path / str(number) / ".hydra"
            hydra.mkdir(parents=True, exist_ok=True)
            for place in (hydra, hydra.parent):
                (place / "overrides.yaml").write_text("".join(f"- {one}\n" for one in overrides))
            (hydra / "config.yaml").write_text("optimized_metric: null\n")
            if results is not None:
                (tmp_path / str(number) / "metrics.json").write_text(json.dumps(results))
        return tmp_path

    return make


def results(accuracy, validated):
    test = {"pairs": 9, "accuracy": accuracy, "accuracy_ci95": [accuracy - 0.1, accuracy + 0.1], "loss": 0.5}
    return {"sets": {"test": test}, "validation": {"val/accuracy": validated}, "examples_per_second": 7.0}


def test_the_table_has_every_job_and_chooses_by_validation(sweep):
    jobs = read_jobs(
        sweep(
            (["optimizer.lr=1e-3", "seed=1"], results(0.9, 0.6)),
            (["optimizer.lr=1e-3", "seed=2"], results(0.8, 0.7)),
            (["optimizer.lr=1e-4", "seed=1"], None),
        )
    )
    assert [job.status for job in jobs] == ["done", "done", "failed"]
    best = best_job(jobs, "val/accuracy")
    assert best is jobs[1]
    lines = as_text(jobs, best).splitlines()
    assert lines[1].split() == ["job", "optimizer.lr", "seed", "val/accuracy", "accuracy", "loss"]
    assert lines[3].split()[-1] == "best"
    assert "0.800 (0.700 to 0.900)" in lines[3]
    assert lines[4].split() == ["2", "1e-4", "1", "failed"]
    assert lines[5].split()[:4] == ["mean", "of", "2", "1e-3"]
    assert "0.850 ± 0.071" in lines[5]
    assert best_job(jobs, "loss") is jobs[0]
    assert best_job(jobs[2:], "loss") is None


def test_a_setting_and_a_metric_of_one_name_are_two_columns(sweep):
    jobs = read_jobs(sweep((["loss=hinge"], results(0.9, 0.6)), (["loss=logexp"], results(0.8, 0.7))))
    rows = list(csv.DictReader(io.StringIO(as_csv(jobs))))
    assert [(row["loss"], row["test/loss"]) for row in rows] == [("hinge", "0.5"), ("logexp", "0.5")]
    head = as_text(jobs, None).splitlines()[1]
    assert head.split() == ["job", "loss", "val/accuracy", "accuracy", "test/loss"]


def test_settings_are_told_as_they_were_typed(sweep):
    typed = ["+trainer.x=${oc.env:SECRET}", "~trainer.precision", "'loader.batch_size=[1,2]'"]
    (job,) = read_jobs(sweep((typed, results(0.5, 0.5))))
    assert job.overrides == {"trainer.x": "${oc.env:SECRET}", "loader.batch_size": "[1,2]"}


def test_jobs_of_an_earlier_sweep_in_the_directory_are_not_of_this_one(sweep):
    directory = sweep(*((["seed=1"], results(0.5, 0.5)) for _ in range(3)))
    (directory / "multirun.yaml").touch()
    sweep((["seed=2"], results(0.6, 0.6)))
    (job,) = read_jobs(directory)
    assert job.overrides == {"seed": "2"}


def test_only_jobs_that_differ_in_seed_alone_are_averaged(sweep):
    jobs = read_jobs(sweep((["a=1", "seed=1"], results(0.5, 0.5)), (["a=2", "seed=2"], results(0.6, 0.6))))
    assert over_seeds(jobs) == []


def test_a_job_that_fails_does_not_take_the_others_with_it(rlhf_rm, small, tmp_path):
    ended = rlhf_rm("train", "-m", *small, "optimizer.lr=1e30,1e-3")  # in the directory that is the default
    assert ended.code == 2, ended.err
    (sweep,) = (tmp_path / "outputs" / "train_sweeps").iterdir()
    assert "Error: the " in ended.err
    assert "a job of the sweep failed" in ended.err
    rows = list(csv.DictReader((sweep / "sweep.csv").open()))
    assert [(row["job"], float(row["optimizer.lr"]), row["status"]) for row in rows] == [
        ("0", 1e30, "failed"),
        ("1", 1e-3, "done"),
    ]
    assert float(rows[1]["accuracy"]) >= 0
    told = json.loads((sweep / "sweep.json").read_text())
    assert told["best"] == "1"
    assert "failed" in ended.out

    # A job that is refused where another has been is not given its results, nor that one its settings.
    before = {name: (sweep / "1" / name).read_text() for name in ("config.yaml", "metrics.json")}
    again = [*small, f"hydra.sweep.dir={sweep}", "hydra.sweep.subdir=1", "seed=7"]
    for more in ([], ["resume=auto", "data.seed=5"]):
        ended = rlhf_rm("train", "-m", *again, *more)
        assert ended.code == 2
        (job,) = read_jobs(sweep)  # the other one is of the first sweep
        assert (job.number, job.status) == ("1", "failed")
        assert "seed" not in report.told(sweep / "1")
        assert before == {name: (sweep / "1" / name).read_text() for name in before}


def test_what_interrupts_a_job_ends_the_sweep(rlhf_rm, small, tmp_path, stopped_after_a_step):
    sweep = tmp_path / "sweep"
    with stopped_after_a_step():
        ended = rlhf_rm("train", "-m", *small, "seed=1,2,3", f"hydra.sweep.dir={sweep}")
    assert ended.code == 130
    assert f"hydra.sweep.dir={sweep} resume=auto goes on with the sweep" in ended.err
    assert [(job.number, job.status) for job in read_jobs(sweep)] == [("0", "failed")]
    assert (sweep / "sweep.csv").is_file()


def test_runs_without_a_test_are_exported_all_the_same(rlhf_rm, small, tmp_path):
    sweep = tmp_path / "sweep"
    told = [*small, "method=reward,sft,ppo", "trainer.limit_test_batches=0", "trainer.max_steps=2"]
    ended = rlhf_rm("train", "-m", *told, "sampling.max_new_tokens=8", f"hydra.sweep.dir={sweep}")
    assert ended.code == 0, ended.err
    for job in "012":
        assert json.loads((sweep / job / "metrics.json").read_text())["sets"] == {}
        assert (sweep / job / "export/config.json").is_file()
    jobs = json.loads((sweep / "sweep.json").read_text())["jobs"]
    assert "val/accuracy" in jobs[0]["metrics"] and "accuracy" not in jobs[0]["metrics"]
    reported = rlhf_rm("report", f"inputs={sweep}", f"hydra.run.dir={tmp_path}/report")
    assert reported.code == 0, reported.err
    assert "It was not tested" in (tmp_path / "report/report.html").read_text()


def test_a_search_by_optuna_ends_in_the_table(rlhf_rm, small, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    ended = rlhf_rm(
        "train",
        "-m",
        "hparams_search=optuna",
        "hydra.sweeper.n_trials=2",
        *small,
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    )
    assert ended.code == 0, ended.err
    told = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    rates = {float(job["overrides"]["optimizer.lr"]) for job in told["jobs"]}
    assert len(rates) == 2
    best = max(told["jobs"], key=lambda job: job["metrics"]["val/accuracy"])
    assert told["best"] == best["number"]
    found = (tmp_path / "sweep" / "optimization_results.yaml").read_text()
    assert f"optimizer.lr: {best['overrides']['optimizer.lr']}" in found


def test_a_search_over_contrastive_settings_tries_other_ones(rlhf_rm, small, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    told = ["hparams_search=contrastive", "hydra.sweeper.n_trials=2", *small]
    ended = rlhf_rm("train", "-m", *told, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert ended.code == 0, ended.err
    jobs = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["jobs"]
    names = {"contrastive", "contrastive.weight", "contrastive.loss.temperature", "contrastive.dropout"}
    assert all(names <= job["overrides"].keys() for job in jobs)
    assert jobs[0]["overrides"] != jobs[1]["overrides"]


def test_a_metric_that_is_never_measured_is_refused_at_once(rlhf_rm, small, tmp_path):
    ended = rlhf_rm("train", *small, "optimized_metric=val/acuracy", f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 2
    assert "optimized_metric=val/acuracy is no metric of this method: use one of val/accuracy" in ended.err
    for split in ("val", "test"):
        told = [f"optimized_metric={split}/accuracy", f"trainer.limit_{split}_batches=0"]
        ended = rlhf_rm("train", *small, *told, f"hydra.run.dir={tmp_path / 'run'}")
        assert ended.code == 2 and f"is not measured with trainer.limit_{split}_batches=0" in ended.err
        assert not (tmp_path / "run/config.yaml").exists()


@pytest.mark.parametrize(
    ("accuracy", "metric", "shown"), [(None, None, "not defined"), (0.5, 0.5, "0.500, chance 0.500")]
)
def test_best_of_n_may_be_undefined_for_every_prompt(sweep, accuracy, metric, shown):
    told = results(0.9, 0.6)
    chance = {"chance": accuracy, "prompts": 0 if accuracy is None else 4}
    told["sets"]["test"]["best_of_n"] = {"accuracy": accuracy, "accuracy_ci95": None} | chance
    (job,) = read_jobs(sweep((["seed=1"], told)))
    assert job.metrics.get("best_of_n") == metric
    assert re.search(rf"best of n .* {re.escape(shown)}$", describe(told["sets"], []), re.MULTILINE)
