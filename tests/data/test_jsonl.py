import json
from hashlib import sha256
from pathlib import Path

import pytest

from rlhf_rm.data.jsonl import JsonlSource, parse_pair, parse_row
from rlhf_rm.data.reading import BadRowError
from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError

USER = {"role": "user", "content": "q"}
GOOD, POOR = {"role": "assistant", "content": "good"}, {"role": "assistant", "content": "poor"}
HH = "\n\nHuman: q\n\nAssistant:"

DIALECTS = {
    "text": {"prompt": "q", "chosen": "good", "rejected": "poor"},
    "messages in the prompt": {"prompt": [USER], "chosen": "good", "rejected": "poor"},
    "responses as messages": {"prompt": [USER], "chosen": [GOOD], "rejected": [POOR]},
    "text prompt, responses as messages": {"prompt": "q", "chosen": [GOOD], "rejected": [POOR]},
    "prompt repeated in the lists": {"prompt": "q", "chosen": [USER, GOOD], "rejected": [USER, POOR]},
    "no prompt": {"chosen": [USER, GOOD], "rejected": [USER, POOR]},
    "null prompt": {"prompt": None, "chosen": [USER, GOOD], "rejected": [USER, POOR]},
    "HH": {"chosen": HH + " good", "rejected": HH + " poor"},
    "HH cut after the prompt": {"prompt": HH, "chosen": " good", "rejected": " poor"},
    "HH with the prompt beside it": {"prompt": HH, "chosen": HH + " good", "rejected": HH + " poor"},
}


@pytest.mark.parametrize("row", DIALECTS.values(), ids=DIALECTS)
def test_every_dialect_of_a_pair_is_the_same_pair(row):
    pair = parse_pair(row | {"unknown": [1, 2]})
    assert (pair.messages, pair.chosen, pair.rejected) == ((Message("user", "q"),), "good", "poor")
    assert pair.pair_id == sha256(b'[[{"content":"q","role":"user"}],"good","poor"]').hexdigest()


def test_message_lists_of_several_turns_share_their_leading_messages():
    system, answer = {"role": "system", "content": "s"}, {"role": "assistant", "content": "a"}
    pair = parse_pair(
        {"chosen": [system, USER, answer, USER, GOOD], "rejected": [system, USER, answer, USER, POOR]}
    )
    assert [message.role for message in pair.messages] == ["system", "user", "assistant", "user"]
    assert (pair.chosen, pair.rejected) == ("good", "poor")


def test_a_dialogue_beside_its_prompt_is_whole_and_does_not_get_the_prompt_again():
    system, answer = {"role": "system", "content": "s"}, {"role": "assistant", "content": "a"}
    more = {"role": "user", "content": "more"}
    for prompt, before in (
        ("q", [system, USER]),
        ("q ", [USER]),
        ([USER], [system, USER]),
        ("more", [USER, answer, more]),
        ("q", [USER, answer, more]),
    ):
        pair = parse_pair({"prompt": prompt, "chosen": [*before, GOOD], "rejected": [*before, POOR]})
        assert [message._asdict() for message in pair.messages] == before
        assert (pair.chosen, pair.rejected) == ("good", "poor")


def test_every_example_of_the_documentation_is_a_pair():
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.split("```json\n")[1].split("```")[0].splitlines()]
    assert len(rows) == 6
    assert [parse_pair(row).messages[-1].role for row in rows] == ["user"] * 6
    assert {parse_pair(row).pair_id for row in rows[2:]} == {parse_pair(rows[2]).pair_id}
    rows = [json.loads(line) for line in text.split("```json\n")[2].split("```")[0].splitlines()]
    groups = [[(pair.chosen[2:], pair.rejected[2:]) for pair in parse_row(row)] for row in rows]
    wren, bat, fly = "wren.", "bat.", "rds fly."
    assert groups[0] == [(wren, fly), (wren, bat), (fly, bat)]
    assert groups[1] == groups[3] == groups[4] == [(wren, bat), (wren, fly)]
    assert sorted(groups[2]) == sorted(groups[0])
    assert len(groups[5]) == 4


def test_an_empty_response_and_a_text_that_only_looks_like_a_marker_are_legal():
    assert parse_pair({"prompt": "q", "chosen": "", "rejected": "x"}).chosen == ""
    pair = parse_pair({"prompt": "Human: I said", "chosen": "a", "rejected": "b"})
    assert pair.messages == (Message("user", "Human: I said"),)


ROW = {"prompt": "q", "chosen": "good", "rejected": "poor"}
BAD = {
    "no chosen": ({"prompt": "q", "rejected": "r"}, 'field "chosen" is missing; there are: prompt, rejected'),
    "null": (ROW | {"rejected": None}, 'field "rejected" is missing'),
    "no prompt": ({"chosen": "a", "rejected": "b"}, 'field "prompt" is missing'),
    "number": (ROW | {"chosen": 3}, '"chosen" must be text or a list of messages, not a number'),
    "prompt an object": (
        ROW | {"prompt": {"text": "q"}},
        '"prompt" must be text or a list of messages, not an obj',
    ),
    "mixed": (ROW | {"chosen": [GOOD]}, '"chosen" is a list but "rejected" is text'),
    "equal": (ROW | {"rejected": "good"}, "are equal"),
    "equal lists": ({"chosen": [USER, GOOD], "rejected": [USER, GOOD]}, "are equal"),
    "equal after parsing": ({"prompt": HH, "chosen": "good", "rejected": " good"}, "are equal"),
    "no messages": (ROW | {"prompt": []}, '"prompt" is an empty list'),
    "role": (
        ROW | {"prompt": [{"role": "human", "content": "q"}]},
        r"'human': use one of system, user, assistant",
    ),
    "no content": (
        ROW | {"prompt": [{"role": "user"}]},
        r'"prompt\[0\]" must be an object with "role" and "content"',
    ),
    "parts": (
        ROW | {"prompt": [{"role": "user", "content": [{"text": "q"}]}]},
        "content that is not text but a list",
    ),
    "list of text": (ROW | {"prompt": ["q"]}, r'"prompt\[0\]" must be an object'),
    "ends in a question": (
        {"chosen": [USER, GOOD, USER], "rejected": [USER, POOR]},
        "goes on .* assistant, user",
    ),
    "another prompt": (
        {"prompt": "other", "chosen": [USER, GOOD], "rejected": [USER, POOR]},
        '"chosen" holds user, assistant, but the "prompt" neither begins it nor stands before',
    ),
    "nothing shared": ({"chosen": [GOOD], "rejected": [POOR]}, "share no message"),
}


@pytest.mark.parametrize(("row", "reason"), BAD.values(), ids=BAD)
def test_what_is_no_pair_is_a_bad_row(row, reason):
    with pytest.raises(BadRowError, match=reason):
        parse_pair(row)


def test_a_bad_row_names_its_file_and_line_or_is_skipped(write_rows, settings):
    path = write_rows([ROW, ROW | {"rejected": "good"}, ROW | {"margin": "much"}, ROW | {"prompt": "other"}])
    with pytest.raises(UserError, match=r'pairs\.jsonl:2: "chosen" and "rejected" are equal'):
        JsonlSource(path, **settings).pairs("train")
    source = JsonlSource(path, **settings | {"on_bad_row": "skip"})
    assert [pair.messages[0].content for pair in source.pairs("all")] == ["q", "other"]
    counts = source.report()["files"]["path"]
    assert (counts["given"], counts["read"], counts["skipped"], len(counts["problems"])) == (4, 2, 2, 2)
