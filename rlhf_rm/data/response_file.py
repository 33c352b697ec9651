"""JSON lines of a prompt and its responses, as `rlhf-rm sample` writes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf_rm.data.messages import parse_prompt, response_text
from rlhf_rm.data.prompts import Prompt
from rlhf_rm.data.reading import BadRowError, read_rows


def read_responses(path: str | Path, on_bad_row: str) -> dict[Prompt, list[str]]:
    """The responses of a file by their prompt; rows of the same prompt are taken together.

    Raises:
        UserError: no such file, or a bad row.
    """
    found: dict[Prompt, list[str]] = {}
    for prompt, responses in read_rows(path, lambda row, _: [parse_row(row)], on_bad_row=on_bad_row).items:
        found.setdefault(prompt, []).extend(responses)
    return found


def parse_row(row: Mapping[str, Any]) -> tuple[Prompt, list[str]]:
    """A row's prompt and its one response or its several.

    Raises:
        BadRowError: a missing field or a wrong type.
    """
    several, one = row.get("responses"), row.get("response")
    if "prompt" not in row or (several is None) == (one is None):
        raise BadRowError('a row needs "prompt", and either "responses" or "response".')
    responses = [one] if several is None else several
    if not isinstance(responses, list) or not responses or not all(isinstance(one, str) for one in responses):
        raise BadRowError('"responses" must be a list of texts, and "response" a text.')
    return parse_prompt(row["prompt"]), [response_text(row["prompt"], one) for one in responses]
