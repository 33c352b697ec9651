"""Checkpoints and caches that are not what was written: gone round, made again, or refused."""

import json
import os
import pickle
import zipfile

import pytest

from rlhf_rm.callbacks.checkpoint import MANIFEST, checkpoints, damage, described, settle
from rlhf_rm.errors import UserError
from rlhf_rm.files import cached_directory

LONGER = ["trainer.max_steps=4", "trainer.max_epochs=-1", "callbacks.checkpoint.every_n_steps=1"]


def flip(path):
    """Turn the bits of some bytes in the middle of a file."""
    content = bytearray(path.read_bytes())
    at = len(content) // 2
    content[at : at + 16] = bytes(255 - byte for byte in content[at : at + 16])
    path.write_bytes(content)


def cut(path):
    """Lose the second half of a file."""
    os.truncate(path, path.stat().st_size // 2)


@pytest.fixture
def ended_run(rlhf_rm, small, tmp_path):
    told = [*small, *LONGER, "loader.batch_size=8", f"hydra.run.dir={tmp_path / 'run'}"]
    assert rlhf_rm("train", *told, "callbacks.checkpoint.keep=3").code == 0
    return told, checkpoints(tmp_path / "run" / "checkpoints")


@pytest.mark.parametrize(("harm", "says"), [(cut, "bytes, and"), (flip, "its content is not")])
def test_the_newest_whole_checkpoint_is_gone_on_from(rlhf_rm, ended_run, tmp_path, harm, says):
    told, found = ended_run
    assert [path.stem for path in found] == ["step_00000002", "step_00000003", "step_00000004"]
    assert all(damage(path) is None for path in found)
    weights = (tmp_path / "run" / "export" / "model.safetensors").read_bytes()
    harm(found[-1])
    ended = rlhf_rm("train", *told, "resume=auto")
    assert ended.code == 0, ended.err
    assert f"{found[-1]} is damaged (" in ended.out + ended.err and says in ended.out + ended.err
    assert f"Going on from {found[1]}" in ended.out + ended.err
    assert (tmp_path / "run" / "export" / "model.safetensors").read_bytes() == weights


def test_where_none_is_whole_nothing_is_lost_and_it_says_so(rlhf_rm, ended_run):
    told, found = ended_run
    for path in found:
        cut(path)
    ended = rlhf_rm("train", *told, "resume=auto")
    assert ended.code == 2
    assert "all 3 checkpoints in" in ended.err and "are damaged" in ended.err
    ended = rlhf_rm("train", *told, f"resume={found[0]}")
    assert ended.code == 2 and f"{found[0]} is damaged: it has" in ended.err
    assert checkpoints(found[0].parent) == found


def test_a_checkpoint_of_which_nobody_knows_and_a_damaged_manifest(rlhf_rm, ended_run):
    told, found = ended_run
    manifest = found[0].parent / MANIFEST
    assert {path.name for path in found} <= set(json.loads(manifest.read_text()))
    cut(manifest)
    ended = rlhf_rm("train", *told, "resume=auto")
    assert ended.code == 2 and f"{manifest} is damaged: delete it" in ended.err
    manifest.unlink()
    cut(found[-1])
    ended = rlhf_rm("train", *told, f"resume={found[-1]}")
    assert ended.code == 2 and ended.err.startswith(f"Error: {found[-1]} is damaged")
    assert "Traceback" not in ended.err


def test_code_in_a_checkpoint_is_not_run(rlhf_rm, ended_run, tmp_path):
    """A checkpoint may come from anybody: only tensors and plain values are read from it."""
    told, _ = ended_run
    trap = tmp_path / "trap"

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(trap),)

    evil = tmp_path / "evil.ckpt"
    with zipfile.ZipFile(evil, "w") as archive:
        archive.writestr("evil/data.pkl", pickle.dumps(Trap(), 2))
        archive.writestr("evil/version", "3")
    ended = rlhf_rm("train", *told[:-1], f"hydra.run.dir={tmp_path / 'other'}", f"resume={evil}")
    assert ended.code == 2, ended.err
    assert f"{evil} is no checkpoint of this program, or holds code: it is not opened" in ended.err
    ended = rlhf_rm("export", f"run={tmp_path / 'run'}", f"checkpoint={evil}", f"output={tmp_path / 'out'}")
    assert ended.code == 2 and "is damaged or belongs to another model" in ended.err
    assert not trap.exists()


def test_killed_between_manifest_and_rename_the_old_file_is_still_whole(tmp_path):
    path = tmp_path / "step_00000001.ckpt"
    for content in (b"old", b"new"):
        part = path.with_suffix(".part")
        part.write_bytes(content)
        settle(part, path, described([part])[part.name])
    assert damage(path) is None
    path.write_bytes(b"old")  # as if the second rename had not come
    assert damage(path) is None
    path.write_bytes(b"odd")
    assert damage(path) == "its content is not what was written"


@pytest.mark.parametrize("harm", [cut, flip, os.unlink])
def test_a_damaged_cache_is_made_again(tmp_path, harm, caplog):
    made = []

    def make(directory):
        made.append(1)
        (directory / "deep").mkdir()
        (directory / "deep" / "numbers").write_text("0123456789" * 9)

    place = tmp_path / "cache" / "name"
    for _ in range(2):
        assert (cached_directory(place, make) / "deep" / "numbers").read_text().startswith("0123")
    assert len(made) == 1
    harm(place / "deep" / "numbers")
    cached_directory(place, make)
    assert (place / "deep" / "numbers").read_text() == "0123456789" * 9
    assert len(made) == 2
    assert f"{place} is damaged, and is made again." in caplog.text


def test_a_whole_cache_in_which_nobody_may_write_is_read(tmp_path, monkeypatch):
    place = tmp_path / "cache" / "name"
    cached_directory(place, lambda made: (made / "numbers").write_text("0123"))

    def no_permission(path):
        raise PermissionError(path)

    monkeypatch.setattr("rlhf_rm.files.FileLock", no_permission)
    assert (cached_directory(place, pytest.fail) / "numbers").read_text() == "0123"


def test_every_cache_of_a_run_is_made_again_when_it_is_damaged(rlhf_rm, small, tmp_path, monkeypatch):
    told = [*small, "method=meta", "meta.made.prompts=60", "trainer.max_steps=1", "sampling.max_new_tokens=6"]
    cache = tmp_path / "cache"
    weights = []
    for number in range(2):
        # The fixture sets its own cache on each call, so this one is named.
        run = tmp_path / f"run_{number}"
        ended = rlhf_rm("train", *told, f"paths.cache_dir={cache}", f"hydra.run.dir={run}")
        assert ended.code == 0, ended.err
        weights.append((run / "export" / "model.safetensors").read_bytes())
        kinds = {path.relative_to(cache).parts[0] for path in cache.rglob("*") if path.is_file()}
        assert kinds == {"base", "encoded", "responses", "tokenizers"}
        for path in sorted(cache.rglob("*")):
            if path.is_file() and path.suffix != ".lock" and path.stat().st_size > 1:
                flip(path)
    assert weights[0] == weights[1]
    assert "is damaged, and is made again" in ended.out + ended.err


def test_a_damaged_checkpoint_of_a_run_is_not_exported(rlhf_rm, ended_run, tmp_path):
    _, found = ended_run
    flip(found[-1])
    ended = rlhf_rm("export", f"run={tmp_path / 'run'}", f"output={tmp_path / 'out'}")
    assert ended.code == 0, ended.err
    assert f"{found[1].name} exported" in ended.out
    for path in found[:-1]:
        flip(path)
    with pytest.raises(UserError, match="all 3 checkpoints"):
        from rlhf_rm.callbacks.checkpoint import newest_whole

        newest_whole(found, warn=False)
