"""The world's own policies: responses of mixed quality to a prompt."""

import random
from dataclasses import dataclass

from rlhf_rm.data.world import lexicon as lex
from rlhf_rm.data.world import phrases as say
from rlhf_rm.data.world.tasks import KNOWN, RELATIONS, TOOLS, Task, World, state


@dataclass(frozen=True, slots=True)
class Policy:
    """How often a policy does what; every field but the weights is a probability.

    ``answers`` weighs right, wrong, vague, off topic, refused and hedged answers to harmless prompts,
    ``harmful`` weighs refusing, complying and vagueness where a request is harmful. ``extra`` is
    a further fact about the entity, true or (with ``subtle``) not.
    """

    answers: tuple[float, ...]
    harmful: tuple[float, float, float]
    short: float
    courteous: float
    rude: float
    filler: float
    flattery: float
    extra: float
    subtle: float
    repeated: float
    cut: float


OUTCOMES = ("right", "wrong", "vague", "off_topic", "refused", "hedged")
ANNOTATED = Policy(
    answers=(0.5, 0.4, 0.04, 0.03, 0.02, 0.01),
    harmful=(0.5, 0.45, 0.05),
    short=0.12,
    courteous=0.3,
    rude=0.15,
    filler=0.25,
    flattery=0.02,
    extra=0.08,
    subtle=0.5,
    repeated=0.04,
    cut=0.03,
)
DRIFTED = Policy(
    answers=(0.55, 0.4, 0.01, 0.02, 0.01, 0.01),
    harmful=(0.5, 0.48, 0.02),
    short=0.0,
    courteous=0.6,
    rude=0.0,
    filler=0.5,
    flattery=0.4,
    extra=0.5,
    subtle=0.5,
    repeated=0.04,
    cut=0.0,
)
DEMONSTRATED = Policy(
    answers=(0.9, 0.06, 0.01, 0.01, 0.01, 0.01),
    harmful=(0.4, 0.55, 0.05),
    short=0.1,
    courteous=0.12,
    rude=0.12,
    filler=0.45,
    flattery=0.02,
    extra=0.12,
    subtle=0.1,
    repeated=0.04,
    cut=0.02,
)


def respond(rng: random.Random, task: Task, world: World, policy: Policy, outcome: str | None = None) -> str:
    """One response to a prompt with this task; ``outcome`` as drawn from the policy unless it is given."""
    outcome = outcome or draw_outcome(rng, task, policy)
    # Manners are drawn apart from the content, so that equal draws give equal manners to any outcome.
    manners = random.Random(rng.random())
    return _dress(manners, _body(rng, task, world, policy, outcome), task, world, policy)


def draw_outcome(rng: random.Random, task: Task, policy: Policy) -> str:
    """One of :data:`OUTCOMES`; where a request is harmful, refusing is what is right."""
    if task.harmful:
        return rng.choices(OUTCOMES[:3], policy.harmful)[0]
    return rng.choices(OUTCOMES, policy.answers)[0]


def best(task: Task, world: World) -> str:
    """A response that no other beats: courteous, right and short."""
    if task.kind == "how_to":
        answer = (
            say.REFUSALS[0]
            if task.harmful
            else say.HOW_TO_ANSWERS[0].format(tool=TOOLS[task.action], action=task.action)
        )
    elif task.kind in ("polite", "question"):
        answer = _rewrite(
            (say.POLITE_ANSWERS if task.kind == "polite" else say.QUESTION_ANSWERS)[0], task.words
        )
    else:
        relation, values = RELATIONS[task.relation], world.values(task.entity, task.relation)
        statements = [s.format(e=task.entity, v=values[0], w=values[-1]) for s in relation.statements]
        answer = min(statements, key=lambda s: len(s.split()))
        if task.kind == "check":
            answer = _after("Yes" if task.asked in values else "No", answer)
    return f"{say.COURTESIES[0]} {answer}"


def _after(word: str, statement: str) -> str:
    return f"{word}, {statement[0].lower() + statement[1:] if statement.startswith('The ') else statement}"


def _rewrite(wording: str, words: tuple[str, ...]) -> str:
    return wording.format(verb=words[0], adjective=words[-2], thing=words[-1])


def _body(rng: random.Random, task: Task, world: World, policy: Policy, outcome: str) -> str:
    if outcome == "vague":
        return rng.choice(say.VAGUE_ANSWERS)
    if outcome == "refused" or (task.harmful and outcome == "right"):
        return rng.choice(say.REFUSALS)
    if task.kind == "how_to":
        return _how_to(rng, task, outcome)
    if task.kind in ("polite", "question"):
        return _rewritten(rng, task, outcome)
    return _fact(rng, task, world, policy, outcome)


def _how_to(rng: random.Random, task: Task, outcome: str) -> str:
    tool, action = TOOLS[task.action], task.action
    wording = rng.choice(say.HOW_TO_ANSWERS)
    if not task.harmful and outcome in ("wrong", "hedged"):
        # Half of what goes wrong in harmless requests is a needless refusal: refusing is neither good
        # nor bad in itself.
        if rng.random() < 0.6:
            return rng.choice(say.REFUSALS)
        tool = rng.choice([t for t in TOOLS.values() if t != tool])
    if outcome == "off_topic":
        action, tool = rng.choice([pair for pair in say.ACTIONS if pair[0] != action])
    return wording.format(tool=tool, action=action)


def _rewritten(rng: random.Random, task: Task, outcome: str) -> str:
    wording = rng.choice(say.POLITE_ANSWERS if task.kind == "polite" else say.QUESTION_ANSWERS)
    words = list(task.words)
    if outcome == "wrong" and rng.random() < 0.2:
        return _rewrite(say.RUDE_ANSWER if task.kind == "polite" else say.UNTURNED_ANSWER, task.words)
    if outcome != "right":
        pools = (say.VERBS, say.ADJECTIVES, say.THINGS)[-len(words) :]
        i = rng.randrange(len(words))
        words[i] = rng.choice([word for word in pools[i] if word != words[i]])
    return _rewrite(wording, tuple(words))


def _fact(rng: random.Random, task: Task, world: World, policy: Policy, outcome: str) -> str:
    relation, true = RELATIONS[task.relation], world.values(task.entity, task.relation)
    wording = random.Random(rng.random())
    wrong = [value for value in lex.VALUES[relation.pool] if value not in true]
    entity, values = task.entity, list(true)
    if outcome == "hedged" and relation.count == 1:
        pair = [rng.choice(true), rng.choice(wrong)]
        rng.shuffle(pair)
        return say.HEDGE.format(v=pair[0], w=pair[1])
    if outcome == "off_topic":
        known = KNOWN[relation.kind]
        group = known if entity in known else [e for e in lex.ENTITIES[relation.kind] if e not in known]
        entity = rng.choice([name for name in group if name != entity])
        values = list(world.values(entity, relation.noun))
    elif outcome != "right":
        values = _wrong_values(rng, task, relation, true, wrong)
    statement = state(wording, entity, relation, values)
    if task.kind == "check":
        agrees = (task.asked in values) if outcome != "off_topic" else rng.random() < 0.5
        return _after("Yes" if agrees else "No", statement)
    if len(values) == relation.count and wording.random() < policy.short:
        return relation.short.format(v=values[0], w=values[-1])
    return statement


def _wrong_values(
    rng: random.Random, task: Task, relation: lex.Relation, true: tuple[str, ...], wrong: list[str]
) -> list[str]:
    """Values that are right for other entities, each as often as it is right."""
    if task.kind == "check":
        return [task.asked] if task.asked not in true else [rng.choice(wrong)]
    if relation.count == 1:
        return [rng.choice(wrong)]
    if rng.random() < 0.2:
        return [rng.choice(true)]
    first = rng.choice(true) if rng.random() < 0.5 else rng.choice(wrong)
    return [first, rng.choice([value for value in wrong if value != first])]


def _dress(rng: random.Random, body: str, task: Task, world: World, policy: Policy) -> str:
    parts = [body]
    if task.entity and rng.random() < policy.extra:
        parts.append(_extra(rng, task, world, policy))
    if rng.random() < policy.repeated:
        parts.append(body)
    if rng.random() < policy.filler:
        parts.insert(0, rng.choice(say.FILLERS))
    if rng.random() < policy.flattery:
        parts.insert(0, rng.choice(say.FLATTERIES))
    manner = rng.random()
    if manner < policy.courteous + policy.rude:
        courteous = manner < policy.courteous
        if rng.random() < 0.6:
            parts.insert(0, rng.choice(say.COURTESIES if courteous else say.RUDE_OPENINGS))
        else:
            parts.append(rng.choice(say.COURTEOUS_CLOSINGS if courteous else say.RUDE_CLOSINGS))
    text = " ".join(parts)
    if rng.random() < policy.cut:
        words = text.split()
        text = " ".join(words[: rng.randint(max(1, len(words) // 2), max(1, len(words) - 1))])
    return text


def _extra(rng: random.Random, task: Task, world: World, policy: Policy) -> str:
    """Another fact about the entity, or what is not one."""
    kind = RELATIONS[task.relation].kind
    relation = rng.choice([r for r in lex.RELATIONS if r.kind == kind and r.noun != task.relation])
    values = list(world.values(task.entity, relation.noun))
    if rng.random() < policy.subtle:
        i = rng.randrange(len(values))
        values[i] = rng.choice([v for v in lex.VALUES[relation.pool] if v not in values])
    return state(rng, task.entity, relation, values)
