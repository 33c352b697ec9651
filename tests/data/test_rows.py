import importlib
import json
import linecache
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from rlhf_rm.data.jsonl import JsonlSource
from rlhf_rm.errors import UserError

ROW = {"prompt": "q", "chosen": "a", "rejected": "b"}
PUBLISHED = {
    "chosen": ["Human: q", "Assistant: a", "Human: r", "Assistant: good"],
    "rejected": ["Human: q", "Assistant: a", "Human: r", "Assistant: bad"],
    "GPT4 label": 1,
    "mean preference difference": 0.75,
    "std preference difference": 0.5,
    "chosen score list": [1.0, 2.0],
    "rejected score list": [0.5, 1.0],
}


@pytest.fixture
def source(write_rows, settings):
    return lambda rows, **more: JsonlSource(write_rows(rows), **settings | more)


@pytest.mark.parametrize("blank", [" ", "_"])
def test_the_published_strengths_become_notes(source, blank):
    pair = source([{name.replace(" ", blank): value for name, value in PUBLISHED.items()}]).pairs("all")[0]
    assert [message.role for message in pair.messages] == ["user", "assistant", "user"]
    assert (pair.messages[2].content, pair.chosen, pair.rejected) == ("r", "good", "bad")
    assert pair.notes == {
        "strength_mean": 0.75,
        "strength_std": 0.5,
        "gpt4_label": 1.0,
        "strength_member_00": 0.5,
        "strength_member_01": 1.0,
    }


def test_a_label_of_minus_one_is_no_label(source):
    assert "gpt4_label" not in source([PUBLISHED | {"GPT4 label": -1}]).pairs("all")[0].notes


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"chosen score list": [1.0]}, "two lists of equally many numbers"),
        ({"mean preference difference": "high"}, '"mean preference difference" must be a finite number'),
        ({"rejected": ["Human: other", "Assistant: bad"]}, "the same turns but for the last"),
        ({"rejected": PUBLISHED["chosen"]}, "are equal"),
        ({"rejected": [*PUBLISHED["chosen"][:-1], 5]}, "must be a list of texts"),
    ],
)
def test_published_rows_that_are_damaged_are_told(source, change, told):
    with pytest.raises(UserError, match=told):
        source([PUBLISHED | change]).pairs("all")


def test_columns_give_other_names_to_our_fields(source):
    rows = [{"question": "q", "best": "a", "worst": "b", "prompt": 5}]
    columns = {"prompt": "question", "chosen": "best", "rejected": "worst"}
    pair = source(rows, columns=columns).pairs("all")[0]
    assert (pair.messages[0].content, pair.chosen, pair.rejected) == ("q", "a", "b")
    with pytest.raises(
        UserError, match=r'columns.prompt names the column "ask", which is missing; there are: '
    ):
        source(rows, columns={"prompt": "ask"}).pairs("all")


def test_the_pairs_of_a_row_share_a_group_that_names_the_row(source):
    rows = [ROW, {"prompt": "q", "responses": ["a", "b", "c"], "ranking": [0, 1, 2], "source": "there"}]
    pairs = source(rows).pairs("all")
    assert [pair.group for pair in pairs] == ["", *["pairs.jsonl:2"] * 3]
    assert [pair.id for pair in pairs] == ["pairs.jsonl:1", *["pairs.jsonl:2"] * 3]
    assert [pair.source for pair in pairs] == ["", *["there"] * 3]
    with pytest.raises(UserError, match='a "margin" is that of one pair'):
        source([rows[1] | {"margin": 1.0}]).pairs("all")


def test_a_file_of_ties_only_is_told(source):
    with pytest.raises(UserError, match="none of its 1 rows prefers one response to another"):
        source([{"prompt": "q", "responses": ["a", "b"], "scores": [1, 1]}]).pairs("all")


def test_parquet_gives_what_json_lines_give(tmp_path, settings, source):
    rows = [ROW | {"margin": 0.5}, {"prompt": "r", "chosen": "c", "rejected": "d", "margin": None}]
    path = tmp_path / "pairs.parquet"
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    read = JsonlSource(path, **settings)
    assert [pair.pair_id for pair in read.pairs("all")] == [
        pair.pair_id for pair in source(rows).pairs("all")
    ]
    assert [pair.margin for pair in read.pairs("all")] == [0.5, None]
    assert [pair.id for pair in read.pairs("all")] == ["pairs.parquet:1", "pairs.parquet:2"]
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"cut.parquet is a truncated or damaged Parquet file"):
        JsonlSource(cut, **settings).pairs("all")


def test_parquet_holds_messages_and_responses_too(tmp_path, settings):
    user, good, bad = (
        {"role": role, "content": text}
        for role, text in (("user", "q"), ("assistant", "a"), ("assistant", "b"))
    )
    path = tmp_path / "messages.parquet"
    pa.parquet.write_table(pa.Table.from_pylist([{"chosen": [user, good], "rejected": [user, bad]}]), path)
    pair = JsonlSource(path, **settings).pairs("all")[0]
    assert (pair.messages[0].content, pair.chosen, pair.rejected) == ("q", "a", "b")
    rows = [ROW, {"prompt": "r", "responses": ["a", "b"], "scores": [1.0, 0.0]}]
    both = pa.Table.from_pylist(rows, schema=pa.Table.from_pylist([rows[0] | rows[1]]).schema)
    pa.parquet.write_table(both, path)  # of columns that a row lacks it has null
    assert [(pair.chosen, pair.rejected) for pair in JsonlSource(path, **settings).pairs("all")] == [
        ("a", "b"),
        ("a", "b"),
    ]


def test_the_fingerprint_is_that_of_the_content_and_the_settings(tmp_path, settings):
    first, second = tmp_path / "a" / "x.jsonl", tmp_path / "b" / "x.jsonl"
    for path in (first, second):
        path.parent.mkdir()
        path.write_text(json.dumps(ROW) + "\n")

    def fingerprint(path: Path, **more):
        return JsonlSource(path, **settings | more).fingerprint()

    assert fingerprint(first) == fingerprint(second)
    changes = [{"split_seed": 5}, {"limit": 3}, {"on_bad_row": "skip"}, {"columns": {"prompt": "chosen"}}]
    others = {fingerprint(first, **change) for change in changes}
    second.write_text(json.dumps(ROW | {"chosen": "z"}) + "\n")
    assert len(others | {fingerprint(first), fingerprint(second)}) == 6
    with pytest.raises(UserError, match="does not exist"):
        fingerprint(tmp_path / "none.jsonl")


def test_a_source_of_ones_own_has_another_fingerprint_once_its_class_is_changed(
    source, tmp_path, monkeypatch
):
    path = source([ROW])._paths["all"]
    settings = {name: value for name, value in vars(source([ROW])).items() if not name.startswith("_")}
    monkeypatch.syspath_prepend(str(tmp_path))
    told = []
    for wanted in ("q", "other", "other"):
        text = (
            f"from rlhf_rm.data.jsonl import JsonlSource\nclass Own(JsonlSource):\n    wanted = {wanted!r}\n"
        )
        (tmp_path / "own_source.py").write_text(text)
        linecache.clearcache()
        sys.modules.pop("own_source", None)
        importlib.invalidate_caches()
        kind = importlib.import_module("own_source").Own
        told.append(kind(path, validation_path=None, test_path=None, **settings).fingerprint())
    assert told[0] != told[1] == told[2]


def test_the_published_human_rankings_give_their_2616_pairs(qa_file, settings):
    source = JsonlSource(qa_file, **settings)
    assert len(source.pairs("all")) == 2616
    assert source.report()["files"]["path"]["read"] == 500
    groups = [pair.group for pair in source.pairs("train")]
    assert len(set(groups)) > 350
    assert groups == sorted(groups, key=groups.index)
