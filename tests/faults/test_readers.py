"""Damaged rows and files through every reader: a sentence or a count, never a traceback or a lost row."""

import gzip
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhf_rm.commands.score import parse_row as parse_to_score
from rlhf_rm.data.dialogues import DialogueSource
from rlhf_rm.data.hh import HHSource
from rlhf_rm.data.jsonl import JsonlSource
from rlhf_rm.data.reading import read_rows
from rlhf_rm.data.response_file import parse_row as parse_responses
from rlhf_rm.data.strengths import read_strengths
from rlhf_rm.errors import UserError

USER, SAID = {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}
SEVERAL = {"prompt": "p", "responses": ["a", "b", "c"]}
# Rows as they ought to be, of every form that a reader takes.
FORMS = [
    {"prompt": "p", "chosen": "a", "rejected": "b", "id": "1", "margin": 0.5, "source": "s"},
    {"prompt": [USER], "chosen": "a", "rejected": "b"},
    {"prompt": [USER], "chosen": [SAID], "rejected": [SAID | {"content": "No."}]},
    {"chosen": [USER, SAID], "rejected": [USER, SAID | {"content": "No."}]},
    {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
    {"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": " a", "rejected": " b"},
    {"chosen": ["Human: q", "Assistant: a"], "rejected": ["Human: q", "Assistant: b"]},
    SEVERAL | {"ranking": [2, 0, 1]},
    SEVERAL | {"scores": [0.1, 0.2, 0.3]},
    SEVERAL | {"preference": [1, 2, 0]},
    {
        "chosen": ["Human: q", "Assistant: a"],
        "rejected": ["Human: q", "Assistant: b"],
        "chosen_score_list": [1.0, 2.0],
        "rejected_score_list": [0.5, 1.0],
        "mean preference difference": 0.75,
        "std preference difference": 0.25,
        "GPT4 label": 1,
    },
    {"messages": [USER, SAID]},
    {"text": "A text."},
    {"prompt": "p", "response": "a"},
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=12)
    | st.sampled_from(["\n\nHuman:", "\n\nAssistant:", "user", "assistant", "", " ", "\x00"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.sampled_from(["role", "content"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def damaged(draw):
    """A row of some form with up to three fields lost, replaced, doubled in depth or added."""
    row = dict(draw(st.sampled_from(FORMS)))
    for _ in range(draw(st.integers(0, 3))):
        field = draw(st.sampled_from([*row, "prompt", "chosen", "rejected", "responses", "margin"]))
        how = draw(st.sampled_from(["drop", "replace", "wrap", "of another"]))
        if how == "drop":
            row.pop(field, None)
        elif how == "replace":
            row[field] = draw(JSON)
        elif how == "wrap" and field in row:
            row[field] = [row[field]]
        else:
            other = draw(st.sampled_from(FORMS))
            row |= {name: other[name] for name in other if draw(st.booleans())}
    return row


@st.composite
def files(draw):
    """A file of such rows, some of its lines or bytes harmed, and how many of its lines are not blank."""
    lines = [json.dumps(row).encode() for row in draw(st.lists(damaged(), min_size=1, max_size=4))]
    for _ in range(draw(st.integers(0, 2))):
        harm = draw(st.sampled_from(["cut", "bytes", "blank", "scalar"]))
        at = draw(st.integers(0, len(lines) - 1))
        if harm == "cut":
            lines[at] = lines[at][: draw(st.integers(1, len(lines[at])))]
        elif harm == "bytes":
            junk = draw(st.binary(min_size=1, max_size=6)).replace(b"\n", b"?")
            place = draw(st.integers(0, len(lines[at])))
            lines[at] = lines[at][:place] + junk + lines[at][place:]
        elif harm == "blank":
            lines.insert(at, b"   ")
        else:
            lines[at] = json.dumps(draw(SCALARS)).encode()
    content = b"\n".join(lines) + draw(st.sampled_from([b"", b"\n"]))
    return content, sum(bool(line.strip()) for line in content.split(b"\n"))


# What each reader is given first, so that it has something to keep, whatever comes then.
GOOD = {
    "jsonl": FORMS[0],
    "hh": FORMS[4],
    "dialogues": FORMS[-3],
    "responses": FORMS[-1],
    "score": FORMS[-1],
}
SPLITS = {
    "validation_path": None,
    "test_path": None,
    "validation_fraction": 0.1,
    "test_fraction": 0.1,
    "split_seed": 0,
    "limit": None,
    "columns": {},
}


def of(source):
    """Reading by a source, as (given, read, skipped)."""

    def read(path, on_bad_row):
        rows = source(path, **SPLITS, on_bad_row=on_bad_row).read("all")
        return rows.given, rows.used, rows.skipped

    return read


def by(parse):
    """Reading by a parser of rows."""

    def read(path, on_bad_row):
        rows = read_rows(path, lambda row, _: [parse(row)], on_bad_row=on_bad_row)
        return rows.given, rows.used, rows.skipped

    return read


READERS = {
    "jsonl": of(JsonlSource),
    "hh": of(HHSource),
    "dialogues": of(DialogueSource),
    "responses": by(parse_responses),
    "score": by(parse_to_score),
}


@pytest.mark.parametrize("reader", READERS)
@settings(
    max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)
@given(made=files(), zipped=st.booleans())
def test_every_row_is_read_or_skipped_or_refused(reader, made, zipped):
    content, lines = made
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "rows.jsonl"
        content = json.dumps(GOOD[reader]).encode() + b"\n" + content
        path.write_bytes(gzip.compress(content, 1) if zipped else content)
        given_, used, skipped = READERS[reader](path, "skip")
        assert (used + skipped, given_) == (lines + 1, lines + 1)
        assert used >= 1
        all_good = skipped == 0
        try:
            given_, used, skipped = READERS[reader](path, "error")
        except UserError as refused:
            assert str(path) in str(refused)
            assert not all_good
        else:
            assert (given_, used, skipped) == (lines + 1, lines + 1, 0)
            assert all_good


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.parquet", "strengths.parquet"])
@settings(
    max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)
@given(data=st.data())
def test_a_damaged_archive_is_refused_or_gives_every_row(name, data):
    rows = [{"prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(20)]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
        elif name == "rows.parquet":
            pa.parquet.write_table(pa.Table.from_pylist(rows), path)
        else:
            table = {"pair_id": [str(i) for i in range(20)], "mean": [0.5] * 20, "std": [0.1] * 20}
            pa.parquet.write_table(pa.table(table), path)
        whole = path.read_bytes()
        content = bytearray(whole)
        if data.draw(st.booleans(), "cut"):
            content = content[: data.draw(st.integers(0, len(content)), "to")]
        for _ in range(data.draw(st.integers(0, 3), "bytes")):
            if content:
                content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        try:
            if name == "strengths.parquet":
                assert len(read_strengths(path)) == 20
            else:
                assert READERS["jsonl"](path, "skip")[0] == 20
        except UserError as refused:
            assert str(path) in str(refused)
            assert content != whole
