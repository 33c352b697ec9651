import gzip
import json

import pytest

from rlhf_rm.data.hh import HHSource, parse_hh_dialogue, parse_hh_pair
from rlhf_rm.data.reading import BadRowError
from rlhf_rm.data.template import render, set_template
from rlhf_rm.data.types import Message
from rlhf_rm.models.tokenizer import train_byte_bpe

PROMPT = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: how are you?\n\nAssistant:"
MESSAGES = (Message("user", "hi"), Message("assistant", "hello"), Message("user", "how are you?"))


def test_the_prompt_is_everything_up_to_the_last_assistant_turn():
    pair = parse_hh_pair(PROMPT + " fine", PROMPT + "  so so\n")
    assert pair.messages == MESSAGES
    # One space belongs to the marker, the rest is the response's own.
    assert (pair.chosen, pair.rejected) == ("fine", " so so\n")


def test_an_empty_response_is_legal_with_and_without_the_space():
    assert parse_hh_pair(PROMPT + " ", PROMPT + " x").chosen == ""
    assert parse_hh_pair(PROMPT, PROMPT + " x").chosen == ""


def test_dialogues_that_part_earlier_keep_their_remaining_turns_in_the_response():
    pair = parse_hh_pair(
        "\n\nHuman: q\n\nAssistant: a\n\nHuman: more\n\nAssistant: b", "\n\nHuman: q\n\nAssistant: c"
    )
    assert pair.messages == (Message("user", "q"),)
    assert (pair.chosen, pair.rejected) == ("a\n\nHuman: more\n\nAssistant: b", "c")


def test_dialogues_that_part_in_a_human_turn_share_the_assistant_turn_before():
    pair = parse_hh_pair(
        "\n\nHuman: q\n\nAssistant: a\n\nHuman: x\n\nAssistant: b",
        "\n\nHuman: q\n\nAssistant: a\n\nHuman: y\n\nAssistant: b",
    )
    assert pair.messages == (Message("user", "q"),)
    assert pair.chosen == "a\n\nHuman: x\n\nAssistant: b"


def test_a_dialogue_that_goes_on_where_the_other_ends():
    pair = parse_hh_pair(
        "\n\nHuman: q\n\nAssistant: a", "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: b"
    )
    assert (pair.chosen, pair.rejected) == ("a", "a\n\nHuman: r\n\nAssistant: b")


def test_text_before_the_first_marker_is_a_system_message_and_whitespace_is_none():
    assert parse_hh_dialogue("Be kind.\n\nHuman: q")[0].message == Message("system", "Be kind.")
    assert [turn.message for turn in parse_hh_dialogue("Human: q")] == [Message("user", "q")]


BAD = {
    "equal": (PROMPT + " a", PROMPT + " a", "equal"),
    "no markers": ("just text", PROMPT, "no .*Human"),
    "ends in a question": (
        PROMPT + " a\n\nHuman: b",
        PROMPT + " c",
        '"chosen" does not end in an Assistant turn',
    ),
    "other prompt": ("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: c\n\nAssistant: d", "share no Human turn"),
    "no question": ("\n\nAssistant: b", "\n\nAssistant: d", "share no Human turn"),
    "number": (PROMPT, 7, '"rejected" must be a whole HH dialogue as text, not a number'),
}


@pytest.mark.parametrize(("chosen", "rejected", "reason"), BAD.values(), ids=BAD)
def test_what_is_no_pair_of_dialogues_is_a_bad_row(chosen, rejected, reason):
    with pytest.raises(BadRowError, match=reason):
        parse_hh_pair(chosen, rejected)


def test_the_template_gives_back_the_text_of_every_real_dialogue(hh_file, settings):
    with gzip.open(hh_file, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    source = HHSource(hh_file, **settings)
    pairs = source.pairs("all")
    tokenizer = train_byte_bpe([], vocab_size=300)
    set_template(tokenizer, "hh")
    for side in ("chosen", "rejected"):
        texts = render(
            tokenizer, [[*pair.messages, Message("assistant", getattr(pair, side))] for pair in pairs]
        )
        assert texts == [row[side] + tokenizer.eos_token for row in rows]
    assert len(pairs) == 2312
    assert sum("" in (pair.chosen, pair.rejected) for pair in pairs) == 4
    # Five pairs part before the last turn of one of them; 2,307 differ in one final turn alone.
    assert sum("\n\nAssistant:" in pair.chosen + pair.rejected for pair in pairs) == 5
