"""Preference pairs as JSON lines: ``prompt``, ``chosen``, ``rejected``, in the usual dialects."""

from collections.abc import Mapping
from typing import Any

from rlhf_rm.data.files import FileSource
from rlhf_rm.data.hh import is_hh_prompt, is_hh_text, parse_hh_pair
from rlhf_rm.data.reading import BadRowError, require, type_name
from rlhf_rm.data.types import ROLES, Message, PreferencePair

Messages = tuple[Message, ...]


class JsonlSource(FileSource):
    """Preference pairs of any JSON lines file; see :func:`parse_pair` for what a row may be."""

    name = "jsonl"

    def parse(self, row: dict[str, Any]) -> PreferencePair:
        """See :func:`parse_pair`."""
        return parse_pair(row)


def parse_pair(row: Mapping[str, Any]) -> PreferencePair:
    """One row as a pair; fields that are not named here are ignored.

    - ``prompt`` (text, or messages of ``role`` and ``content``) with ``chosen`` and ``rejected`` as text;
    - the same with ``chosen`` and ``rejected`` as message lists that end in the response, with or
      without the prompt's messages before it;
    - no ``prompt``: message lists, whose leading messages in common are the prompt;
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


def parse_prompt(value: Any) -> Messages:
    """A prompt given as text (one user message) or as messages.

    Raises:
        BadRowError: neither, or no messages.
    """
    if isinstance(value, str):
        return (Message("user", value),)
    return parse_messages(value, "prompt")


def parse_messages(value: Any, field: str) -> Messages:
    """A list of ``{"role": …, "content": …}``.

    Raises:
        BadRowError: something else, an empty list, an unknown role, or a content that is not text.
    """
    if not isinstance(value, list):
        raise BadRowError(f'"{field}" must be text or a list of messages, not {type_name(value)}.')
    if not value:
        raise BadRowError(f'"{field}" is an empty list of messages.')
    return tuple(_message(item, f"{field}[{i}]") for i, item in enumerate(value))


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, dict) or not {"role", "content"} <= item.keys():
        raise BadRowError(f'"{where}" must be an object with "role" and "content".')
    role, content = item["role"], item["content"]
    if role not in ROLES:
        raise BadRowError(f'"{where}" has the role {role!r}: use one of {", ".join(ROLES)}.')
    if not isinstance(content, str):
        raise BadRowError(f'"{where}" has a content that is not text but {type_name(content)}.')
    return Message(role, content)


def _pair_of_messages(prompt: Any, chosen: Messages, rejected: Messages) -> PreferencePair:
    """The response is the one assistant message after what the two have in common."""
    if prompt is not None:
        before = parse_prompt(prompt)
        chosen, rejected = (
            given if given[: len(before)] == before else (*before, *given) for given in (chosen, rejected)
        )
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
