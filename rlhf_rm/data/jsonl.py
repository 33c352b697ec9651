"""Preferences in any file: ``prompt``, ``chosen``, ``rejected``, or K responses, in the usual dialects."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlhf_rm.data.files import FileSource
from rlhf_rm.data.hh import is_hh_prompt, is_hh_text, parse_hh_lines, parse_hh_pair
from rlhf_rm.data.messages import Messages, parse_messages, parse_prompt
from rlhf_rm.data.reading import BadRowError, require, type_name
from rlhf_rm.data.responses import has_responses, parse_responses
from rlhf_rm.data.types import PreferencePair


class JsonlSource(FileSource):
    """Preferences of any file of JSON lines, or Parquet; see :func:`parse_row` for what a row may be."""

    name = "jsonl"

    def parse(self, row: dict[str, Any]) -> PreferencePair | Sequence[PreferencePair]:
        """See :func:`parse_row`."""
        return parse_row(row)


def parse_row(row: Mapping[str, Any]) -> PreferencePair | Sequence[PreferencePair]:
    """One row as a pair (:func:`parse_pair`) or as K responses
    (:func:`~rlhf_rm.data.responses.parse_responses`).

    Raises:
        BadRowError: see there.
    """
    return parse_responses(row) if has_responses(row) else parse_pair(row)


def parse_pair(row: Mapping[str, Any]) -> PreferencePair:
    """One row as a pair; fields that are not named here are ignored.

    - ``prompt`` (text, or messages of ``role`` and ``content``) with ``chosen`` and ``rejected`` as text;
    - the same with ``chosen`` and ``rejected`` as message lists: the response alone, or a dialogue that ends
      in it and begins with the prompt, or has the prompt right before the response;
    - no ``prompt``: message lists, whose leading messages in common are the prompt;
    - no ``prompt``: lists of texts, the turns of an HH dialogue (the published strengths have these);
    - whole HH dialogues in ``chosen`` and ``rejected``, or cut after the last ``Assistant:`` into
      ``prompt`` and responses.

    Raises:
        BadRowError: a field is missing or of the wrong type, or chosen equals rejected.
    """
    prompt, chosen, rejected = row.get("prompt"), require(row, "chosen"), require(row, "rejected")
    for field in ("chosen", "rejected"):
        if not isinstance(row[field], str | list):
            raise BadRowError(f'"{field}" must be text or a list of messages, not {type_name(row[field])}.')
    if type(chosen) is not type(rejected):
        raise BadRowError(
            f'"chosen" is {type_name(chosen)} but "rejected" is {type_name(rejected)}: give both alike.'
        )
    if prompt is None and chosen and rejected and isinstance(chosen[0], str) and isinstance(chosen, list):
        return parse_hh_lines(chosen, rejected)
    if isinstance(chosen, list):
        pair = _pair_of_messages(
            prompt, parse_messages(chosen, "chosen"), parse_messages(rejected, "rejected")
        )
    elif is_hh_prompt(prompt):
        whole = [text if text.startswith(prompt) else prompt + text for text in (chosen, rejected)]
        pair = parse_hh_pair(*whole)
    elif prompt is None and is_hh_text(chosen):
        pair = parse_hh_pair(chosen, rejected)
    else:
        pair = PreferencePair(parse_prompt(require(row, "prompt")), chosen, rejected)
    if pair.chosen == pair.rejected:
        raise BadRowError('"chosen" and "rejected" are equal.')
    return pair


def _pair_of_messages(prompt: Any, chosen: Messages, rejected: Messages) -> PreferencePair:
    """The response is the one assistant message after what the two have in common."""
    if prompt is not None:
        before = parse_prompt(prompt)
        chosen, rejected = (_whole(before, chosen, "chosen"), _whole(before, rejected, "rejected"))
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if shared == 0:
        raise BadRowError('"chosen" and "rejected" share no message that could be the prompt.')
    for field, messages in (("chosen", chosen), ("rejected", rejected)):
        if len(messages) != shared + 1 or messages[-1].role != "assistant":
            roles = ", ".join(message.role for message in messages[shared:])
            raise BadRowError(
                f'"{field}" goes on after the shared messages with {roles}, where one assistant message '
                "is expected."
            )
    return PreferencePair(chosen[:shared], chosen[-1].content, rejected[-1].content)


def _whole(before: Messages, given: Messages, field: str) -> Messages:
    """The prompt with the response; a list that has the prompt within is whole already.

    Such a list may have more than the prompt, which some sets give as the last question alone.

    Raises:
        BadRowError: a dialogue with another prompt.
    """
    if len(given) == 1 and given[0].role == "assistant":
        return (*before, *given)
    asked = given[:-1]
    if _same(given[: len(before)], before) or _same(asked[-len(before) :], before):
        return given
    raise BadRowError(
        f'"{field}" holds {", ".join(message.role for message in given)}, but the "prompt" neither begins it '
        "nor stands before its last message: give the response alone, a dialogue that holds the prompt, or "
        "no prompt."
    )


def _same(some: Messages, others: Messages) -> bool:
    """Whether messages are equal but for blanks around them."""
    return [(one.role, one.content.strip()) for one in some] == [
        (one.role, one.content.strip()) for one in others
    ]
