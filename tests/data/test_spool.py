import os
import pickle
import tempfile
import tracemalloc

import numpy as np
import pytest

from rlhf_rm.data.jsonl import JsonlSource
from rlhf_rm.data.spool import Chain, Spool, View, spooled
from rlhf_rm.errors import UserError


def test_a_spool_is_a_list_that_may_grow_between_reads():
    spool = Spool()
    for i in range(5):
        spool.append({"n": i})
        assert spool[-1] == {"n": i}
    assert list(spool) == [{"n": i} for i in range(5)] == spool
    assert spool[1:3] == [{"n": 1}, {"n": 2}]
    assert spool != [{"n": 0}]
    with pytest.raises(IndexError, match="item 5 of 5"):
        spool[5]


def test_views_and_chains_are_sequences_that_change_items_as_they_are_taken():
    numbers = spooled(range(10))
    view = View(numbers, np.array([7, 2]), lambda at, item: 100 * at + item)
    assert view == [707, 202]
    chain = Chain([view, [], View(numbers, np.arange(2)), [5]])
    assert list(chain) == [707, 202, 0, 1, 5]
    assert (len(chain), chain[-1], chain[1]) == (5, 5, 202)
    assert len(Chain([])) == 0


def test_another_process_reads_what_it_inherits_or_is_sent():
    spool = spooled(str(i) * 1000 for i in range(100))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, b"1" if list(spool) == [str(i) * 1000 for i in range(100)] else b"0")
        finally:
            os._exit(0)
    os.close(writer)
    assert list(spool) == [str(i) * 1000 for i in range(100)]
    os.waitpid(child, 0)
    assert os.read(reader, 1) == b"1"
    os.close(reader)
    sent = pickle.loads(pickle.dumps(View(spool, np.array([3, 1]))))
    assert sent == ["3" * 1000, "1" * 1000]


def test_a_mistake_in_an_item_does_not_end_the_sequence():
    with pytest.raises(IndexError):
        list(View(spooled(range(3)), change=lambda at, item: [][item]))


def test_where_there_is_no_room_it_says_which_variable_names_another_place(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(UserError, match=r"missing \(No such file.*TMPDIR=DIR"):
        Spool()


def test_a_source_does_not_hold_its_text(tmp_path):
    path = tmp_path / "pairs.jsonl"
    with path.open("w") as file:
        file.writelines(
            f'{{"prompt": "{i}", "chosen": "{"a" * 5000}", "rejected": "b"}}\n' for i in range(4000)
        )
    settings = {"validation_path": None, "test_path": None, "validation_fraction": 0.1, "test_fraction": 0.1}
    source = JsonlSource(path, **settings, split_seed=0, on_bad_row="error", limit=None, columns={})
    tracemalloc.start()
    assert sum(len(pair.chosen) for pair in source.pairs("train")) > 3000 * 5000
    assert tracemalloc.get_traced_memory()[1] < 5e6 < path.stat().st_size / 3
    tracemalloc.stop()
