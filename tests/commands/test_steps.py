"""Steps one after the other and side by side, without any training."""

import threading
import time
from dataclasses import replace
from itertools import pairwise

import pytest

from rlhf_rm.commands.alone import alone_with_steps
from rlhf_rm.commands.steps import (
    done_now,
    in_its_own_process,
    one_after_the_other,
    side_by_side,
    told,
)
from rlhf_rm.errors import UserError
from rlhf_rm.rounds.stage import DONE, Stage


@pytest.fixture
def steps(tmp_path):
    """Two chains of two: b reads what a leaves, d what c leaves."""

    def stage(name, *reads):
        return Stage(name, "train", (), tuple(one.output(tmp_path) for one in reads), ("left",))

    a, c = stage("w/a"), stage("w/c")
    return [a, stage("w/b", a), c, stage("w/d", c)]


class Record:
    """Leaves what a step should, and remembers who ran when."""

    def __init__(self, root, fails=()):
        self.root, self.fails, self.lock = root, fails, threading.Lock()
        self.log, self.running, self.most = [], 0, 0

    def __call__(self, stage):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.05)
        with self.lock:
            self.running -= 1
            self.log.append(stage.name)
        if stage.name in self.fails:
            raise UserError(f"{stage.name} failed")
        stage.output(self.root).write_text(stage.name)


def test_side_by_side_each_waits_for_what_it_reads_and_is_not_done_twice(steps, tmp_path, capsys):
    record = Record(tmp_path)
    side_by_side(steps, tmp_path, record, 2)
    assert sorted(record.log) == ["w/a", "w/b", "w/c", "w/d"] and record.most == 2
    assert record.log.index("w/a") < record.log.index("w/b")
    assert record.log.index("w/c") < record.log.index("w/d")
    capsys.readouterr()
    side_by_side(steps, tmp_path, record, 2)
    assert len(record.log) == 4 and capsys.readouterr().out.count("done before") == 4
    (tmp_path / "w/a/left").write_text("changed by hand")
    assert [line.split(": ")[1] for line in told(steps, tmp_path).splitlines() if line[0] == "["] == [
        "outdated",
        "outdated",
        "done, unless what comes before changes",
        "done, unless what comes before changes",
    ]
    side_by_side(steps, tmp_path, record, 2)
    assert sorted(record.log[4:]) == ["w/a"]  # b reads the same from it as before
    assert (tmp_path / "w/a.outdated_1/left").read_text() == "changed by hand"


def test_what_reads_from_a_step_that_is_not_done_is_not_done_either(steps, tmp_path):
    a, b, c, d = steps
    assert done_now(steps, tmp_path) == []
    side_by_side(steps, tmp_path, Record(tmp_path), 1)
    assert done_now(steps, tmp_path) == steps
    changed = [replace(a, overrides=("seed=2",)), b, c, d]
    assert b.state(tmp_path) == DONE  # what it has read still lies there
    assert done_now(changed, tmp_path) == [c, d]


def test_no_more_run_than_there_are_jobs(steps, tmp_path):
    record = Record(tmp_path)
    side_by_side(steps, tmp_path, record, 1)
    assert record.most == 1 and record.log == ["w/a", "w/b", "w/c", "w/d"]


def test_after_a_failure_the_others_end_and_the_same_again_goes_on(steps, tmp_path, capsys):
    record = Record(tmp_path, fails=("w/a",))
    with pytest.raises(UserError, match="w/a failed"):
        side_by_side(steps, tmp_path, record, 2)
    assert "w/b" not in record.log and "w/d" in record.log and record.running == 0
    record.fails = ()
    side_by_side(steps, tmp_path, record, 2)
    assert "[1/4] w/a, going on" in capsys.readouterr().out
    assert all(stage.state(tmp_path) == "done" for stage in steps)


def test_one_after_the_other_keeps_the_order(steps, tmp_path):
    record = Record(tmp_path)
    one_after_the_other(steps, tmp_path, record)
    assert all(before < after for before, after in pairwise(record.log))
    assert record.most == 1


def test_a_command_with_a_manifest_of_its_own_works_one_directory_further(tmp_path):
    vote = Stage("vote", "vote", (), (), ("vote/manifest.json",), within="vote")

    def carry_out(stage):
        stage.place(tmp_path).mkdir()
        stage.output(tmp_path).write_text("its own")

    one_after_the_other([vote], tmp_path, carry_out)
    assert (tmp_path / "vote/vote/manifest.json").read_text() == "its own"
    assert vote.state(tmp_path) == "done"
    assert f"hydra.run.dir={tmp_path}/vote/vote" in told([vote], tmp_path)


def test_of_a_launcher_of_several_tasks_only_trainings_use_more_than_the_first(tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_RM_ONE_PROCESS", "1")
    said = {}
    for command in ("train", "sample", "judge", "evaluate"):
        stage = Stage(command, command, (), (), ())
        file = tmp_path / command
        with alone_with_steps(tmp_path) as lock:
            in_its_own_process(stage, tmp_path, f"sh -c 'env > {file}'", (), lock)
        said[command] = "RLHF_RM_ONE_PROCESS=1" in file.read_text().splitlines()
    assert said == {"train": False, "sample": True, "judge": True, "evaluate": True}
