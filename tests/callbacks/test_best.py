import pytest
import torch

from rlhf_rm.callbacks.best import BestCheckpoint
from rlhf_rm.errors import UserError
from rlhf_rm.report.runs import read_run
from rlhf_rm.report.table import metric_of


def fit(tiny, directory, best, **settings):
    return tiny.fit(
        directory,
        also=[best],
        source={"train": 24, "validation": 7},
        module={"lr": 0.05},
        max_epochs=2,
        val_check_interval=2,
        **settings,
    )


def test_the_best_validation_is_what_remains(tiny, tmp_path):
    best = BestCheckpoint(str(tmp_path), "val/loss", "max")  # so that the end is not the best
    trainer, module, watch = fit(tiny, tmp_path, best)
    by_step = dict(watch.validations)
    assert best.step == max(by_step, key=by_step.get) < trainer.global_step
    kept = torch.load(tmp_path / f"step_{best.step:08d}.ckpt", weights_only=False)["state_dict"]
    last = torch.load(tmp_path / f"step_{trainer.global_step:08d}.ckpt", weights_only=False)["state_dict"]
    assert all(torch.equal(weight, kept[name]) for name, weight in module.state_dict().items())
    assert any(not torch.equal(weight, last[name]) for name, weight in module.state_dict().items())


def test_a_resumed_run_remembers_the_best(tiny, tmp_path):
    whole = BestCheckpoint(str(tmp_path), "val/loss", "max")
    _, _, watch = fit(tiny, tmp_path, whole)
    for step, _ in watch.validations:  # the checkpoint of a step knows what its validation measured
        kept = torch.load(tmp_path / f"step_{step:08d}.ckpt", weights_only=True)["callbacks"][
            "BestCheckpoint"
        ]
        assert kept["value"] == max(value for other, value in watch.validations if other <= step)
    again = BestCheckpoint(str(tmp_path), "val/loss", "max")
    fit(tiny, tmp_path, again, resume=tmp_path / "step_00000008.ckpt")
    assert (again.step, again.value) == (whole.step, whole.value)


def test_a_metric_that_is_not_measured_is_told_with_those_that_are(tiny, tmp_path):
    with pytest.raises(
        UserError, match=r"metric=val/acc is not measured in a validation: use one of val/acc"
    ):
        fit(tiny, tmp_path, BestCheckpoint(str(tmp_path), "val/acc", "max"))
    with pytest.raises(UserError, match="mode=high is unknown"):
        BestCheckpoint(str(tmp_path), "val/accuracy", "high")


def test_early_stopping_ends_the_run_and_exports_the_best(rlhf_rm, small, tmp_path):
    run = tmp_path / "run"
    ended = rlhf_rm(
        "train",
        *small,
        "callbacks=early_stopping",
        "callbacks.best.metric=val/loss",
        "callbacks.best.mode=min",
        "callbacks.early_stopping.patience=1",
        "callbacks.early_stopping.min_delta=100",  # nothing is an improvement
        "trainer.val_check_interval=1",
        "trainer.max_steps=9",
        f"hydra.run.dir={run}",
    )
    assert ended.code == 0, ended.err
    steps = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert steps == ["best.ckpt", "manifest.json", "step_00000002.ckpt"]


def test_curves_are_those_of_the_training_though_the_best_weights_are_tested(rlhf_rm, small, tmp_path):
    def trained(name, *told):
        told = [*small, "trainer.val_check_interval=1", "trainer.max_steps=3", *told]
        ended = rlhf_rm("train", *told, f"hydra.run.dir={tmp_path}/{name}")
        assert ended.code == 0, ended.err
        return read_run(tmp_path / name, {})

    plain = trained("plain")
    curve = plain.curves["val/loss"]
    first, *_, last = (value for _, value in curve)
    mode = "max" if first > last else "min"  # so that the end is not the best
    best = trained("best", "callbacks=best", "callbacks.best.metric=val/loss", f"callbacks.best.mode={mode}")
    assert best.metrics["val/loss"] == pytest.approx(first) != pytest.approx(last)
    assert best.curves["val/loss"] == curve and len(curve) == 3
    assert metric_of(best, "lost val/loss") == metric_of(plain, "lost val/loss")
    assert best.curves["test/loss"] == [(3, pytest.approx(best.metrics["loss"]))]  # is logged as ever
