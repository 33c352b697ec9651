"""W&B runs, read back from the file that W&B writes."""

import json
import os
import signal
import struct
import threading
import time
from pathlib import Path

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from rlhf_rm.callbacks.wandb_run import WandbRun
from rlhf_rm.errors import UserError

BLOCK = 32768  # of the log format of LevelDB, in which a .wandb file is written
HEADER = 7


def records(path: Path) -> list[Record]:
    """Every record of the .wandb file of a run that has ended; its service writes the last after the end."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found = written(path)
        if any(record.HasField("exit") for record in found):
            return found
        time.sleep(0.1)
    raise AssertionError(f"the end is not among the records of {path}")


def written(path: Path) -> list[Record]:
    """Every record that a .wandb file has so far."""
    data = path.read_bytes()
    found, parts, at = [], b"", HEADER  # the file's own header is as long as a chunk's
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # what is left of a block holds no chunk
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        parts += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # the whole of a record, or its last part
            record = Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


def runs(directory: Path) -> list[Path]:
    return sorted((directory / "wandb").glob("offline-run-*/run-*.wandb"))


@pytest.fixture
def train(rlhf_rm, small, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # no login of whoever runs the tests
    return lambda *overrides: rlhf_rm("train", *overrides, *small, "logger=wandb")


def test_an_offline_run_has_the_configuration_charts_and_images(train, tmp_path):
    run = tmp_path / "run"
    assert train("logger.offline=true", "trainer.log_every_n_steps=1", f"hydra.run.dir={run}").code == 0
    (path,) = runs(run)
    everything = records(path)
    assert any(record.run.project == "rlhf_rm" for record in everything)
    config = {
        item.key: json.loads(item.value_json)
        for record in everything
        for update in (record.run.config.update, record.config.update)
        for item in update
        if item.key
    }
    assert config["optimizer"]["lr"] == 5e-4
    assert config["data"]["train_pairs"] == 40
    logged: dict[str, list] = {}
    for record in everything:
        for item in record.history.item:
            key = item.key or ".".join(item.nested_key)
            logged.setdefault(key, []).append(json.loads(item.value_json))
    assert len(logged["train/loss"]) == 4
    assert {"train/accuracy", "val/accuracy", "test/accuracy", "trainer/step"} <= logged.keys()
    images = [name for name in logged if name.startswith("test/reliability")]
    assert images
    assert len(list(path.parent.glob("files/media/images/test/*.png"))) == 3
    assert (run / "wandb_id").read_text().strip() in path.name
    assert (run / "metrics.csv").is_file()


def test_texts_are_a_table(train, tmp_path):
    run = tmp_path / "run"
    assert train("logger.offline=true", "method=sft", f"hydra.run.dir={run}").code == 0
    (path,) = runs(run)
    told = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    tables = sorted(path.parent.glob("files/media/table/train/responses*.table.json"))
    assert len(tables) == len(told) > 0
    rows = [[one["prompt"], one["response"]] for one in told[0]["texts"]]
    assert rows in [json.loads(table.read_text())["data"] for table in tables]


def test_a_resumed_run_keeps_its_id_and_a_sweep_is_a_group(train, tmp_path):
    run = tmp_path / "sweep" / "0"
    swept = train("-m", "logger.offline=true", f"hydra.sweep.dir={tmp_path / 'sweep'}", "seed=1")
    assert swept.code == 0, swept.err
    again = train("logger.offline=true", f"hydra.run.dir={run}", "resume=auto", "trainer.max_steps=5")
    assert again.code == 0, again.err
    first, second = (records(path) for path in runs(run))
    ids = {record.run.run_id for record in first + second if record.run.run_id}
    assert ids == {(run / "wandb_id").read_text().strip()}
    assert {record.run.run_group for record in first if record.run.run_id} == {"sweep"}


def test_a_server_that_cannot_be_reached_is_a_warning(train, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    run = tmp_path / "run"
    ended = train(f"hydra.run.dir={run}", "logger.wandb.timeout=2")
    assert ended.code == 0, ended.err
    assert "W&B cannot be reached" in ended.out + ended.err
    assert runs(run)
    assert (run / "metrics.json").is_file()
    kept = [path.read_text() for path in (run / "config.yaml", run / "metrics.json")]
    assert not any("0" * 40 in text for text in kept)


def children() -> set[int]:
    """The processes that this one has started, and theirs."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(") ", 1)[1].split()[1])
        except OSError:
            continue  # it has ended in the meantime
    found, new = set(), {os.getpid()}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


def kill_wandb(metrics: Path, killed: list[int]) -> None:
    """Kill the service of W&B as soon as something was logged."""
    until = time.monotonic() + 60
    while time.monotonic() < until and not killed:
        if metrics.is_file() and len(metrics.read_text().splitlines()) > 2:
            for pid in children():
                command = Path(f"/proc/{pid}/cmdline")
                if command.exists() and b"wandb-core" in command.read_bytes():
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
        time.sleep(0.05)


def test_a_service_that_dies_in_the_middle_is_a_warning(train, tmp_path):
    run, killed = tmp_path / "run", []
    killer = threading.Thread(target=kill_wandb, args=(run / "metrics.csv", killed))
    killer.start()
    ended = train(
        "logger.offline=true", f"hydra.run.dir={run}", "trainer.log_every_n_steps=1", "trainer.max_steps=400",
        "trainer.max_epochs=-1",
    )  # fmt: skip
    killer.join()
    assert killed, "W&B has no service of its own any more"
    assert ended.code == 0, ended.err
    assert "W&B failed" in ended.out + ended.err and "goes on without it" in ended.out + ended.err
    assert json.loads((run / "metrics.json").read_text())["steps"] == 400
    wandb.teardown()  # as when the process ends: nothing is left that could fail


def test_an_id_that_is_a_path_is_refused(tmp_path):
    (tmp_path / "wandb_id").write_text("../../elsewhere\n")
    with pytest.raises(UserError, match="holds no id of a W&B run"):
        _ = WandbRun(
            str(tmp_path),
            project="p",
            entity=None,
            name=None,
            group=None,
            tags=[],
            offline=True,
            timeout=1.0,
        ).version
