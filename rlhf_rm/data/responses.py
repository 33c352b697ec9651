"""Rows of K responses to one prompt, with what is known about which is better.

Every form comes down to pairs (better, worse) of one group: a tie gives no pair, and a ranking one for
each two responses. The losses see the same however it was written.
"""

from collections.abc import Mapping
from itertools import combinations, product
from typing import Any

from rlhf_rm.data.messages import Messages, parse_prompt, response_of, response_text
from rlhf_rm.data.reading import BadRowError, require, type_name
from rlhf_rm.data.rows import finite
from rlhf_rm.data.types import PreferencePair

FORMS = ("preferences", "preference", "ranking", "scores")
MAX_RESPONSES = 64
GROUP = "row"  # the source puts the row's own name in its place
Order = tuple[int, int]  # (better, worse)


def has_responses(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of K responses: a list of them, or lists of texts as chosen and rejected.

    Lists of texts without a prompt are turns of a dialogue, and its last is the response.
    """
    if row.get("responses") is not None:  # in Parquet a pair has the column too
        return True
    if row.get("prompt") is None:
        return False
    sides = [row.get("chosen"), row.get("rejected")]
    return all(isinstance(side, list) and side and isinstance(side[0], str) for side in sides)


def parse_responses(row: Mapping[str, Any]) -> list[PreferencePair]:
    """The pairs of a row of K responses, none where all are tied.

    - ``responses`` (texts, or messages that end in an assistant's) with one of

      - ``preferences``: pairs ``[better, worse]`` of positions from 0;
      - ``preference``: for each two responses in the order 1-2, 1-3, …, 2-3, …: 1 where the first of
        the two is better, 2 where the second is, 0 for a tie;
      - ``ranking``: positions from 0, the best first, ties as a list within: ``[2, [0, 3], 1]``;
      - ``scores``: a number for each response, higher is better;

    - ``chosen`` and ``rejected`` as lists of texts: each of the first is better than each of the second.

    Raises:
        BadRowError: a field is missing or of the wrong form, or a response is better than its equal.
    """
    prompt = parse_prompt(require(row, "prompt"))
    if row.get("responses") is not None:
        responses = _responses(row, prompt)
        given = [form for form in FORMS if row.get(form) is not None]
        if len(given) != 1:
            raise BadRowError(
                f'"responses" need one of {", ".join(FORMS)}, but there is {", ".join(given) or "none"}.'
            )
        order = _READ[given[0]](row[given[0]], len(responses))
    else:
        chosen, rejected = (_texts(row, side) for side in ("chosen", "rejected"))
        responses = chosen + rejected
        order = list(product(range(len(chosen)), range(len(chosen), len(responses))))
    for better, worse in order:
        if responses[better] == responses[worse]:
            raise BadRowError(f"response {better} is to be better than response {worse}, but they are equal.")
    return [
        PreferencePair(prompt, responses[better], responses[worse], group=GROUP)
        for better, worse in dict.fromkeys(order)
    ]


def _responses(row: Mapping[str, Any], prompt: Messages) -> list[str]:
    value = row["responses"]
    if not isinstance(value, list) or not 2 <= len(value) <= MAX_RESPONSES:
        found = f"a list of {len(value)}" if isinstance(value, list) else type_name(value)
        raise BadRowError(f'"responses" must be a list of 2 to {MAX_RESPONSES} responses, not {found}.')
    return [
        response_text(row["prompt"], one)
        if isinstance(one, str)
        else response_of(prompt, one, f"responses[{i}]")
        for i, one in enumerate(value)
    ]


def _texts(row: Mapping[str, Any], field: str) -> list[str]:
    for i, one in enumerate(row[field]):
        if not isinstance(one, str):
            raise BadRowError(f'"{field}[{i}]" must be text, not {type_name(one)}.')
    return [response_text(row["prompt"], one) for one in row[field]]


def _preferences(value: Any, count: int) -> list[Order]:
    pairs = value if isinstance(value, list) else None
    if pairs is None or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise BadRowError('"preferences" must be a list of pairs [better, worse].')
    return [(_position(better, count), _position(worse, count)) for better, worse in pairs]


def _preference(value: Any, count: int) -> list[Order]:
    both = list(combinations(range(count), 2))
    codes = value if isinstance(value, list) else None
    if (
        codes is None
        or len(codes) != len(both)
        or any(type(c) is not int or c not in (0, 1, 2) for c in codes)
    ):
        raise BadRowError(
            f'"preference" must be a list of {len(both)} numbers 0, 1 or 2, one for each two of the '
            f"{count} responses."
        )
    return [(a, b) if code == 1 else (b, a) for (a, b), code in zip(both, codes, strict=True) if code]


def _ranking(value: Any, count: int) -> list[Order]:
    if not isinstance(value, list):
        raise BadRowError(f'"ranking" must be a list of positions, the best first, not {type_name(value)}.')
    tiers = [
        [_position(one, count) for one in (tier if isinstance(tier, list) else [tier])] for tier in value
    ]
    flat = [one for tier in tiers for one in tier]
    if len(set(flat)) != len(flat):
        raise BadRowError('"ranking" names a response twice.')
    return [pair for above, below in combinations(tiers, 2) for pair in product(above, below)]


def _scores(value: Any, count: int) -> list[Order]:
    if not isinstance(value, list) or len(value) != count:
        raise BadRowError(f'"scores" must be a list of {count} numbers, one for each response.')
    scores = [finite(score, "scores") for score in value]
    return [
        (a, b) if scores[a] > scores[b] else (b, a)
        for a, b in combinations(range(count), 2)
        if scores[a] != scores[b]
    ]


_READ = {"preferences": _preferences, "preference": _preference, "ranking": _ranking, "scores": _scores}


def _position(value: Any, count: int) -> int:
    if type(value) is not int or not 0 <= value < count:
        raise BadRowError(f"{value!r} is no position of a response: use whole numbers from 0 to {count - 1}.")
    return value
