import csv
import os

import pytest

from rlhf_rm.callbacks.metrics_csv import MetricsCSV


def read(path):
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def test_columns_grow_and_a_step_has_one_row(tmp_path):
    path = tmp_path / "run" / "metrics.csv"
    log = MetricsCSV(str(path))
    log.log_metrics({"train/loss": 0.5, "epoch": 0}, 0)
    log.log_metrics({"train/loss": 0.25}, 1)
    log.log_metrics({"val/loss": 2.0}, 1)
    log.log_metrics({"train/loss": 0.125}, 2)
    assert read(path) == [
        {"step": "0", "train/loss": "0.5"},
        {"step": "1", "train/loss": "0.25", "val/loss": "2.0"},
        {"step": "2", "train/loss": "0.125"},
    ]


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path):
    path = tmp_path / "metrics.csv"
    first = MetricsCSV(str(path))
    for step in range(6):
        first.log_metrics({"train/loss": float(step)}, step)
    second = MetricsCSV(str(path))
    for step in (4, 5, 6):
        second.log_metrics({"train/loss": step + 0.5, "extra": 1.0}, step)
    assert [(row["step"], row["train/loss"]) for row in read(path)] == [
        ("0", "0.0"),
        ("1", "1.0"),
        ("2", "2.0"),
        ("3", "3.0"),
        ("4", "4.5"),
        ("5", "5.5"),
        ("6", "6.5"),
    ]


def test_a_kill_while_the_columns_grow_loses_no_row(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    log = MetricsCSV(str(path))
    log.log_metrics({"a": 1.0}, 0)
    before = path.read_bytes()

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        log.log_metrics({"b": 1.0}, 1)
    assert path.read_bytes() == before


@pytest.mark.parametrize("log_every", [1, 4])
def test_a_run_that_goes_on_writes_the_file_of_one_that_never_stopped(tiny, tmp_path, log_every):
    options = {"max_epochs": 2, "val_check_interval": 0.5, "log_every_n_steps": log_every}
    tiny.fit(tmp_path / "whole", **options)
    whole = (tmp_path / "whole/metrics.csv").read_text()
    assert len({row.split(",")[0] for row in whole.splitlines()}) == len(whole.splitlines())
    killed = tmp_path / "killed"
    killed.mkdir()
    header, *rows = whole.splitlines(keepends=True)
    # What a run that was killed in step 9 leaves: rows beyond its checkpoint of step 5.
    (killed / "metrics.csv").write_text(header + "".join(row for row in rows if int(row.split(",")[0]) < 8))
    tiny.fit(killed, resume=tmp_path / "whole/step_00000005.ckpt", every_n_steps=99, **options)
    assert (killed / "metrics.csv").read_text() == whole
