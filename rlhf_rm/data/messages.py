"""Prompts and responses given as messages: what TRL and the chat formats write."""

from typing import Any

from rlhf_rm.data.hh import answer_in, is_hh_prompt, parse_hh_prompt
from rlhf_rm.data.reading import BadRowError, type_name
from rlhf_rm.data.types import ROLES, Message

Messages = tuple[Message, ...]


def parse_prompt(value: Any) -> Messages:
    """A prompt given as text (the turns of an HH prompt, else one user message) or as messages.

    Raises:
        BadRowError: neither, or no messages.
    """
    if is_hh_prompt(value):
        return parse_hh_prompt(value)
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


def response_text(prompt: Any, text: str) -> str:
    """A response given as text, to a prompt as its row has it: after an HH prompt, what HH says of it."""
    return answer_in(prompt, text) if is_hh_prompt(prompt) else text


def response_of(prompt: Messages, value: Any, field: str) -> str:
    """The text of a response given as messages, with or without the prompt's before it.

    Raises:
        BadRowError: something else than the prompt and one assistant message.
    """
    messages = parse_messages(value, field)
    own = messages[len(prompt) :] if messages[: len(prompt)] == prompt else messages
    if len(own) != 1 or own[0].role != "assistant":
        roles = ", ".join(message.role for message in own) or "nothing"
        raise BadRowError(
            f'"{field}" holds {roles} after the prompt, where one assistant message is expected.'
        )
    return own[0].content
