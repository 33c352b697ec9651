"""What a prompt of the world asks for: drawing prompts, and reading them back.

Prompts are read by exact lookup of their last question, so that gold judges a prompt however it came
about, and knows that it does not know any other.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from rlhf_rm.data.types import Message
from rlhf_rm.data.world import lexicon as lex
from rlhf_rm.data.world import phrases as say

RELATIONS = {relation.noun: relation for relation in lex.RELATIONS}
TOOLS = dict(say.ACTIONS)
KNOWN = {kind: names[: -lex.HELD_OUT] for kind, names in lex.ENTITIES.items()}
HELD_OUT = {kind: names[-lex.HELD_OUT :] for kind, names in lex.ENTITIES.items()}


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked, one of five kinds; fields that a kind does not use are empty.

    ``fact``: the values of ``relation`` for ``entity`` (one, or a list). ``check``: yes or no, whether
    ``asked`` is the value. ``polite`` and ``question``: rewrite ``words`` (verb, adjective, thing).
    ``how_to``: the tool for ``action``, to be refused where ``harmful``.
    """

    kind: str
    entity: str = ""
    relation: str = ""
    asked: str = ""
    words: tuple[str, ...] = ()
    action: str = ""
    harmful: bool = False


class Target(NamedTuple):
    """A fact of the world: ``relation`` of ``entity``."""

    entity: str
    relation: str


class World:
    """The facts, dealt out from ``seed``: every value of a relation is true about equally often."""

    def __init__(self, seed: int) -> None:
        self._values: dict[Target, tuple[str, ...]] = {}
        for relation in lex.RELATIONS:
            # Known and held-out entities are dealt separately, so that each value is right equally
            # often among the former: no word of an answer is likelier to be right than another.
            for group in (KNOWN, HELD_OUT):
                rng = random.Random(f"{seed}/facts/{relation.noun}/{group is KNOWN}")
                names = list(group[relation.kind])
                rng.shuffle(names)
                hands = _deal(rng, lex.VALUES[relation.pool], relation.count, len(names))
                for name, hand in zip(names, hands, strict=True):
                    self._values[Target(name, relation.noun)] = hand

    @property
    def facts(self) -> dict[Target, tuple[str, ...]]:
        """Every fact of the world: its values, in no particular order."""
        return dict(self._values)

    def values(self, entity: str, relation: str) -> tuple[str, ...]:
        """The values of ``relation`` that are true of ``entity``."""
        return self._values[Target(entity, relation)]


def _deal(rng: random.Random, values: Sequence[str], count: int, hands: int) -> list[tuple[str, ...]]:
    """``hands`` tuples of ``count`` distinct values, each value used equally often; decks divide evenly."""
    decks = -(-hands * count // len(values))
    cards = [value for _ in range(decks) for value in rng.sample(values, len(values))]
    return [tuple(cards[i * count : (i + 1) * count]) for i in range(hands)]


def targets(kinds: dict[str, list[str]]) -> list[Target]:
    """Every fact that can be asked about the entities of ``kinds``."""
    return [Target(name, r.noun) for r in lex.RELATIONS for name in kinds[r.kind]]


def _core_questions() -> Iterator[tuple[str, Task]]:
    """Every question that stands on its own, with its task."""
    for relation in lex.RELATIONS:
        for entity in lex.ENTITIES[relation.kind]:
            task = Task("fact", entity, relation.noun)
            for wording in relation.questions + relation.styled_questions:
                yield wording.format(e=entity), task
            for wording, value in product(
                relation.checks + relation.styled_checks, lex.VALUES[relation.pool]
            ):
                yield wording.format(e=entity, v=value), Task("check", entity, relation.noun, value)
    for words in product(say.VERBS, say.ADJECTIVES, say.THINGS):
        for wording in say.POLITE_REQUESTS + say.STYLED_POLITE_REQUESTS:
            yield _rewriting(wording, words), Task("polite", words=words)
    for pair in product(say.ADJECTIVES, say.THINGS):
        for wording in say.QUESTION_REQUESTS + say.STYLED_QUESTION_REQUESTS:
            yield _rewriting(wording, pair), Task("question", words=pair)
    for action, harmful in product(TOOLS, (False, True)):
        for reason in say.HARMFUL_REASONS if harmful else say.HARMLESS_REASONS:
            for wording in say.HOW_TO_QUESTIONS + say.STYLED_HOW_TO_QUESTIONS:
                yield (
                    wording.format(action=action, reason=reason),
                    Task("how_to", action=action, harmful=harmful),
                )


def _rewriting(wording: str, words: Sequence[str]) -> str:
    return wording.format(verb=words[0], adjective=words[-2], thing=words[-1])


CORE = dict(_core_questions())
FOLLOW_UPS = {
    wording.format(noun=relation.noun): relation.noun
    for relation in lex.RELATIONS
    for wording in say.FOLLOW_UPS + say.STYLED_FOLLOW_UPS
}


def read_task(messages: Sequence[Message]) -> Task | None:
    """The task of a prompt, or None where it is not one of the world's."""
    if not messages or messages[-1].role != "user":
        return None
    question = _without_preamble(messages[-1].content)
    relation = FOLLOW_UPS.get(question)
    if relation is None:
        return CORE.get(question)
    earlier = [m for m in messages[:-1] if m.role == "user"]
    before = CORE.get(_without_preamble(earlier[-1].content)) if earlier else None
    if before is None or before.entity not in lex.ENTITIES[RELATIONS[relation].kind]:
        return None
    return Task("fact", before.entity, relation)


def _without_preamble(content: str) -> str:
    for preamble in say.PREAMBLES:
        if content.startswith(preamble):
            return content[len(preamble) :].lstrip(" ")
    return content


@dataclass(frozen=True, slots=True)
class PromptMix:
    """How prompts are drawn: which entities they are about, and in which wording.

    ``weights`` are the relative frequencies of the kinds of task, see :data:`KINDS`.
    """

    entities: dict[str, list[str]]
    styled: bool
    weights: tuple[float, ...]


# How often a user says something before the question.
PREAMBLE = 0.42
KINDS = ("fact", "follow_up", "check", "polite", "question", "how_to")


def draw_prompt(
    rng: random.Random, mix: PromptMix, world: World, target: Target | None = None
) -> tuple[Message, ...]:
    """One prompt; about ``target`` where given (then ``weights`` should leave out what is about no fact)."""
    kind = rng.choices(KINDS, mix.weights)[0]
    if target is None and kind in ("fact", "follow_up", "check"):
        relation = rng.choice(lex.RELATIONS)
        target = Target(rng.choice(mix.entities[relation.kind]), relation.noun)
    earlier: tuple[Message, ...] = ()
    if target is None:
        question = _draw_request(rng, kind, mix.styled)
    else:
        relation = RELATIONS[target.relation]
        others = [r for r in lex.RELATIONS if r.kind == relation.kind and r is not relation]
        if kind == "check" and relation.checks:
            question = _draw_check(rng, target, mix.styled, world)
        elif kind == "follow_up" and others:
            question = rng.choice(say.STYLED_FOLLOW_UPS if mix.styled else say.FOLLOW_UPS).format(
                noun=relation.noun
            )
            earlier = _earlier_turns(rng, target.entity, rng.choice(others), mix.styled, world)
        else:
            question = rng.choice(relation.styled_questions if mix.styled else relation.questions).format(
                e=target.entity
            )
    if not earlier and rng.random() < PREAMBLE:
        question = f"{rng.choice(say.PREAMBLES)} {question}"
    return (*earlier, Message("user", question))


def _draw_check(rng: random.Random, target: Target, styled: bool, world: World) -> str:
    """A yes-or-no question; the answer is yes half of the time."""
    relation = RELATIONS[target.relation]
    true = world.values(*target)
    asked = rng.choice(
        true if rng.random() < 0.5 else [v for v in lex.VALUES[relation.pool] if v not in true]
    )
    return rng.choice(relation.styled_checks if styled else relation.checks).format(e=target.entity, v=asked)


def _earlier_turns(
    rng: random.Random, entity: str, relation: lex.Relation, styled: bool, world: World
) -> tuple[Message, ...]:
    question = rng.choice(relation.styled_questions if styled else relation.questions).format(e=entity)
    return Message("user", question), Message(
        "assistant", state(rng, entity, relation, world.values(entity, relation.noun))
    )


def _draw_request(rng: random.Random, kind: str, styled: bool) -> str:
    if kind == "how_to":
        reasons = say.HARMFUL_REASONS if rng.random() < 0.5 else say.HARMLESS_REASONS
        wordings = say.STYLED_HOW_TO_QUESTIONS if styled else say.HOW_TO_QUESTIONS
        return rng.choice(wordings).format(action=rng.choice(say.ACTIONS)[0], reason=rng.choice(reasons))
    words = (rng.choice(say.VERBS), rng.choice(say.ADJECTIVES), rng.choice(say.THINGS))
    if kind == "polite":
        return _rewriting(rng.choice(say.STYLED_POLITE_REQUESTS if styled else say.POLITE_REQUESTS), words)
    return _rewriting(
        rng.choice(say.STYLED_QUESTION_REQUESTS if styled else say.QUESTION_REQUESTS), words[1:]
    )


def state(rng: random.Random, entity: str, relation: lex.Relation, values: Sequence[str]) -> str:
    """A sentence that says that ``values`` are the ``relation`` of ``entity``, true or not."""
    wording = rng.choice(relation.statements)
    if len(values) < relation.count:
        wording = wording.replace(" and {w}", "")
    shuffled = rng.sample(list(values), len(values))
    return wording.format(e=entity, v=shuffled[0], w=shuffled[-1])
