"""Prompts as text or as messages, the same in every form of data."""

import pytest

from rlhf_rm.commands import score
from rlhf_rm.data import response_file
from rlhf_rm.data.dialogues import parse_dialogue
from rlhf_rm.data.jsonl import parse_row
from rlhf_rm.data.messages import parse_prompt
from rlhf_rm.data.reading import BadRowError
from rlhf_rm.data.types import Message

HH = "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant:"
TURNS = (Message("user", "q"), Message("assistant", "a"), Message("user", "r"))


@pytest.mark.parametrize(
    ("prompt", "good", "poor"),
    [(HH, " good", "poor"), (HH + " ", "good", "poor"), (HH, HH + " good", HH + "poor")],
)
def test_an_hh_prompt_is_its_turns_in_every_form_of_data(prompt, good, poor):
    pairs = [
        parse_row({"prompt": prompt, "chosen": good, "rejected": poor}),
        *parse_row({"prompt": prompt, "responses": [poor, good], "ranking": [1, 0]}),
        *parse_row({"prompt": prompt, "chosen": [good], "rejected": [poor]}),
    ]
    assert [(pair.messages, pair.chosen, pair.rejected) for pair in pairs] == [(TURNS, "good", "poor")] * 3
    row = {"prompt": prompt, "response": good}
    assert parse_dialogue(row) == (*TURNS, Message("assistant", "good"))
    assert response_file.parse_row(row) == (TURNS, ["good"])
    assert score.parse_row(row) == (row, (TURNS, "good"))


def test_an_hh_prompt_without_a_question_is_a_bad_row_and_other_text_one_message():
    with pytest.raises(BadRowError, match="no Human turn before"):
        parse_prompt("\n\nAssistant:")
    assert parse_prompt("Human: I said") == (Message("user", "Human: I said"),)
