"""Files that could not be written are refused before the work that they are for."""

import pytest


@pytest.mark.parametrize("command", ["sample", "score", "paper"])
def test_an_output_that_cannot_be_written_is_one_sentence(rlhf_rm, tmp_path, command):
    (tmp_path / "file").write_text("in the way")
    needed = {"sample": ["run=none"], "score": ["run=none", "input=none"], "paper": []}
    for output, says in (("file/out", "since no file can be made in"), ("", "is a directory: name a file")):
        ended = rlhf_rm(command, *needed[command], f"output={tmp_path / output}")
        assert ended.code == 2 and says in ended.err and ended.err.count("\n") == 1, ended.err
    assert not list(tmp_path.rglob("world_*"))
