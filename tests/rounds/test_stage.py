"""When a step is done, goes on, or has to be done anew."""

import json
from dataclasses import replace

import pytest

from rlhf_rm.errors import UserError
from rlhf_rm.rounds.stage import (
    DONE,
    INTERRUPTED,
    MANIFEST,
    OUTDATED,
    TO_DO,
    Stage,
    content_hash,
    what_they_say,
)


@pytest.fixture
def stage(tmp_path):
    (tmp_path / "input.txt").write_text("one")
    return Stage(
        "round_00/some", "train", ("a=1", f"b={tmp_path}/x"), (tmp_path / "input.txt",), ("out", "table.json")
    )


def done(stage, root):
    assert stage.begin(root) is None
    (stage.directory(root) / "out").mkdir(exist_ok=True)
    (stage.directory(root) / "out" / "weights").write_text("w")
    (stage.directory(root) / "table.json").write_text("{}")
    stage.finish(root, 1.5)


def test_from_nothing_to_done(stage, tmp_path):
    assert stage.state(tmp_path) == TO_DO
    stage.begin(tmp_path)
    assert stage.state(tmp_path) == INTERRUPTED
    done(stage, tmp_path)
    assert stage.state(tmp_path) == DONE
    manifest = json.loads((stage.directory(tmp_path) / MANIFEST).read_text())
    assert manifest["command"] == "train" and manifest["overrides"] == ["a=1", "b=./x"]
    assert set(manifest["leaves"]) == {"out", "table.json"} and list(manifest["reads"]) == ["./input.txt"]


def test_a_change_of_what_it_reads_or_of_a_setting_makes_it_outdated_and_the_old_is_kept(stage, tmp_path):
    done(stage, tmp_path)
    other = Stage(stage.name, stage.command, ("a=2",), stage.reads, stage.leaves)
    assert other.state(tmp_path) == OUTDATED
    same = ("loader.workers=2", "+logger=wandb", "logger.name=x", f"b={tmp_path}/x", "a=3", "a=1")
    assert replace(stage, overrides=same).state(tmp_path) == DONE
    assert replace(stage, overrides=(*same, "loader.batch_size=2")).state(tmp_path) == OUTDATED
    later, earlier = ("c={d:1}", "c.d=2"), ("c.d=2", "c={d:1}")
    assert what_they_say(later) == list(later) and what_they_say(earlier) == list(earlier)
    assert what_they_say(("c.d=0", *later)) == list(later)
    (tmp_path / "input.txt").write_text("two")
    assert stage.state(tmp_path) == OUTDATED
    moved = stage.begin(tmp_path)
    assert (moved / "out" / "weights").read_text() == "w" and moved.name == "some.outdated_1"
    assert stage.state(tmp_path) == INTERRUPTED
    (tmp_path / "input.txt").write_text("three")
    assert stage.begin(tmp_path).name == "some.outdated_2"


@pytest.mark.parametrize("damage", ["out/weights", "table.json"])
def test_what_it_left_must_still_be_there_as_it_was(stage, tmp_path, damage):
    done(stage, tmp_path)
    path = stage.directory(tmp_path) / damage
    path.write_text("something else")
    assert stage.state(tmp_path) == OUTDATED
    path.unlink()
    assert stage.state(tmp_path) == OUTDATED


def test_what_left_nothing_is_not_done(stage, tmp_path):
    stage.begin(tmp_path)
    (stage.directory(tmp_path) / "out").mkdir()
    with pytest.raises(UserError, match=r"has ended, and left no table\.json in "):
        stage.finish(tmp_path, 1.0)
    assert stage.state(tmp_path) == INTERRUPTED


def test_files_of_somebody_else_are_moved_away_and_not_written_over(stage, tmp_path):
    stage.directory(tmp_path).mkdir(parents=True)
    (stage.directory(tmp_path) / "mine.txt").write_text("mine")
    moved = stage.begin(tmp_path)
    assert (moved / "mine.txt").read_text() == "mine"


def test_half_a_manifest_is_none(stage, tmp_path):
    done(stage, tmp_path)
    (stage.directory(tmp_path) / MANIFEST).write_text('{"key": ')
    assert stage.state(tmp_path) == INTERRUPTED


def test_a_moved_run_is_still_done(stage, tmp_path):
    root = tmp_path / "here"
    root.mkdir()
    (root / "input.txt").write_text("one")
    done(Stage(stage.name, "train", (f"b={root}/x",), (root / "input.txt",), stage.leaves), root)
    there = root.rename(tmp_path / "there")
    assert (
        Stage(stage.name, "train", (f"b={there}/x",), (there / "input.txt",), stage.leaves).state(there)
        == DONE
    )


def test_a_directory_is_told_by_names_and_contents(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("1")
    first = content_hash(tmp_path / "a")
    (tmp_path / "a" / "README.md").write_text("a card")
    assert content_hash(tmp_path / "a") == first
    (tmp_path / "a" / "b" / "c").rename(tmp_path / "a" / "b" / "d")
    assert content_hash(tmp_path / "a") != first
