"""HH dialogues: one text with ``\\n\\nHuman:`` and ``\\n\\nAssistant:`` before the turns.

Source: Bai et al. 2022, "Training a Helpful and Harmless Assistant with RLHF" (the published data).
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from rlhf_rm.data.files import FileSource
from rlhf_rm.data.reading import BadRowError, require, type_name
from rlhf_rm.data.types import Message, PreferencePair

MARKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
LINE_MARKER = re.compile(r"\s*(Human|Assistant): ?")
ROLE_OF = {"Human": "user", "Assistant": "assistant"}


class HHSource(FileSource):
    """HH preference pairs: whole dialogues in ``chosen`` and ``rejected``.

    The prompt is everything up to the last assistant turn that begins in both dialogues at the same
    place after the same text; the responses are what follows its ``Assistant:``. Nearly always that is
    the final turn. Where the dialogues part earlier, a response holds the remaining turns as they
    stand in the file, since those are what was compared.
    """

    name = "hh"

    def parse(self, row: dict[str, Any]) -> PreferencePair:
        """See :func:`parse_hh_pair`."""
        return parse_hh_pair(require(row, "chosen"), require(row, "rejected"))


class Turn(NamedTuple):
    """One turn of an HH dialogue and the position in the text where its content begins."""

    message: Message
    start: int


def is_hh_text(value: Any) -> bool:
    """Whether a value is a text that opens with an HH marker."""
    return isinstance(value, str) and MARKER.match(value) is not None


def is_hh_prompt(value: Any) -> bool:
    """Whether a value is an HH dialogue that was cut where the assistant is to answer."""
    return is_hh_text(value) and value.rstrip().endswith("\n\nAssistant:")


def parse_hh_dialogue(text: str) -> list[Turn]:
    """Split a dialogue at its markers.

    One space after a marker belongs to the marker; all other whitespace is content, so that the ``hh``
    template gives back the very text. Text before the first marker is a system message.

    Raises:
        BadRowError: there is no marker.
    """
    marks = list(MARKER.finditer(text))
    if not marks:
        raise BadRowError('no "\\n\\nHuman:" and "\\n\\nAssistant:" in the dialogue.')
    turns = []
    if marks[0].start() > 0:
        turns.append(Turn(Message("system", text[: marks[0].start()]), 0))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=True):
        start = mark.end() + text.startswith(" ", mark.end())
        turns.append(Turn(Message(ROLE_OF[mark[1]], text[start:end]), start))
    return turns


def parse_hh_prompt(text: str) -> tuple[Message, ...]:
    """The turns of a text for which :func:`is_hh_prompt` holds.

    Raises:
        BadRowError: no human turn stands before its last ``Assistant:``.
    """
    messages = tuple(turn.message for turn in parse_hh_dialogue(text)[:-1])
    if not any(message.role == "user" for message in messages):
        raise BadRowError('the prompt has no Human turn before "\\n\\nAssistant:".')
    return messages


def answer_in(prompt: str, text: str) -> str:
    """The response to an HH prompt, given with the prompt before it or alone, without the marker's space."""
    whole = text if text.startswith(prompt) else prompt + text
    return whole[len(prompt.rstrip()) :].removeprefix(" ")


def parse_hh_pair(chosen: Any, rejected: Any) -> PreferencePair:
    """The shared prompt and the two responses of a pair of dialogues.

    Raises:
        BadRowError: no two dialogues that share a human turn and go on with an assistant turn.
    """
    dialogues = []
    for field, text in (("chosen", chosen), ("rejected", rejected)):
        if not isinstance(text, str):
            raise BadRowError(f'"{field}" must be a whole HH dialogue as text, not {type_name(text)}.')
        turns = parse_hh_dialogue(text)
        if turns[-1].message.role != "assistant":
            raise BadRowError(f'"{field}" does not end in an Assistant turn.')
        dialogues.append(turns)
    if chosen == rejected:
        raise BadRowError('"chosen" and "rejected" are equal.')
    cut = _last_shared_assistant_turn(*dialogues)
    if cut is None:
        raise BadRowError("chosen and rejected share no Human turn that both answer.")
    of_chosen, of_rejected = dialogues
    return PreferencePair(
        messages=tuple(turn.message for turn in of_chosen[:cut]),
        chosen=chosen[of_chosen[cut].start :],
        rejected=rejected[of_rejected[cut].start :],
    )


def parse_hh_lines(chosen: Sequence[Any], rejected: Sequence[Any]) -> PreferencePair:
    """A pair of dialogues given as lists of turns, as in the published strength-annotated HH set.

    The last line is the response, those before it are the prompt and equal in both. A line may say
    whose it is (``Human:``, ``Assistant:``); otherwise user and assistant take turns, the response
    being the assistant's.

    Raises:
        BadRowError: a line is not text, or the two prompts differ or are empty.
    """
    for field, lines in (("chosen", chosen), ("rejected", rejected)):
        if not all(isinstance(line, str) for line in lines):
            raise BadRowError(f'"{field}" must be a list of texts, one for each turn.')
    if len(chosen) < 2 or list(chosen[:-1]) != list(rejected[:-1]):
        raise BadRowError('"chosen" and "rejected" must be the same turns but for the last, the response.')
    turns = [_turn(line, len(chosen) - 1 - i) for i, line in enumerate(chosen)]
    pair = PreferencePair(tuple(turns[:-1]), turns[-1].content, _turn(rejected[-1], 0).content)
    if pair.chosen == pair.rejected:
        raise BadRowError('"chosen" and "rejected" are equal.')
    return pair


def _turn(line: str, before_the_end: int) -> Message:
    mark = LINE_MARKER.match(line)
    if mark:
        return Message(ROLE_OF[mark[1]], line[mark.end() :])
    return Message("user" if before_the_end % 2 else "assistant", line)


def _last_shared_assistant_turn(first: list[Turn], second: list[Turn]) -> int | None:
    """Index of the last turn that is the assistant's in both, after equal turns with a human one."""
    cut = None
    for k, (a, b) in enumerate(zip(first, second, strict=False)):
        if a.message.role == b.message.role == "assistant" and any(
            turn.message.role == "user" for turn in first[:k]
        ):
            cut = k
        if a.message != b.message:
            break
    return cut
