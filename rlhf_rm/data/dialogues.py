"""Dialogues and texts without preferences: what language models imitate, and prompts for them to answer."""

from collections.abc import Sequence
from typing import Any

from rlhf_rm.data.files import FileSource
from rlhf_rm.data.hh import is_hh_text, parse_hh_dialogue
from rlhf_rm.data.messages import Messages, parse_messages, parse_prompt, response_of, response_text
from rlhf_rm.data.reading import BadRowError, type_name
from rlhf_rm.data.types import Message, PreferencePair
from rlhf_rm.errors import UserError

RESPONSES = ("response", "completion", "chosen")


class DialogueSource(FileSource):
    """Dialogues of a file of JSON lines, or Parquet; see :func:`parse_dialogue` for what a row may be.

    A dialogue that ends with the assistant is a demonstration; every prompt may be answered.
    """

    name = "dialogues"

    def parse(self, row: dict[str, Any]) -> PreferencePair:
        """A dialogue in the form that the base class keeps, with its response twice."""
        *prompt, last = parse_dialogue(row)
        if last.role == "assistant":
            return PreferencePair(tuple(prompt), last.content, last.content, notes={"answered": 1.0})
        return PreferencePair((*prompt, last), "", "", notes={"answered": 0.0})

    def pairs(self, split: str) -> Sequence[PreferencePair]:
        """None.

        Raises:
            UserError: always.
        """
        raise UserError(
            "data=dialogues has no preferences: train on it with method=sft or method=ppo, or give "
            "preferences with data=jsonl."
        )

    def demonstrations(self, split: str) -> list[Messages]:
        """The dialogues of a split that end with the assistant, in their order."""
        return [
            (*one.messages, Message("assistant", one.chosen))
            for one in self.items(split)
            if one.notes["answered"]
        ]

    def demonstrations_fingerprint(self) -> str:
        """See :class:`~rlhf_rm.data.sft.DemonstrationSource`."""
        return self.fingerprint()

    def prompts(self, split: str) -> list[Messages]:
        """The distinct prompts of a split, in their order; texts have none."""
        return list(dict.fromkeys(one.messages for one in self.items(split) if one.messages))


def parse_dialogue(row: dict[str, Any]) -> Messages:
    """One row as messages.

    - ``messages``: of ``role`` and ``content``;
    - ``prompt`` (text or messages), with ``response``, ``completion`` or ``chosen`` (text, or messages that
      end in the assistant's), or alone, to be answered;
    - ``text``: an HH dialogue, or any text, which is one assistant message without a prompt.

    Raises:
        BadRowError: none of these, or of the wrong type.
    """
    if row.get("messages") is not None:
        return parse_messages(row["messages"], "messages")
    if row.get("text") is not None:
        if not isinstance(row["text"], str):
            raise BadRowError(f'"text" must be text, not {type_name(row["text"])}.')
        if is_hh_text(row["text"]):
            return tuple(turn.message for turn in parse_hh_dialogue(row["text"]))
        return (Message("assistant", row["text"]),)
    if row.get("prompt") is None:
        raise BadRowError('a dialogue needs "messages", "prompt" or "text".')
    prompt = parse_prompt(row["prompt"])
    field = next((name for name in RESPONSES if row.get(name) is not None), None)
    if field is None:
        return prompt
    answer = row[field]
    text = (
        response_text(row["prompt"], answer)
        if isinstance(answer, str)
        else response_of(prompt, answer, field)
    )
    return (*prompt, Message("assistant", text))
