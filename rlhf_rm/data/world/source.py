"""The synthetic world as a source of preferences, prompts, demonstrations and K responses."""

import hashlib
import json
import math
import random
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

from rlhf_rm.data.responses import MAX_RESPONSES
from rlhf_rm.data.types import Message, PreferencePair
from rlhf_rm.data.world import gold as gold_reward
from rlhf_rm.data.world.policy import DEMONSTRATED, Policy, best, draw_outcome, respond
from rlhf_rm.data.world.splits import (
    DEMONSTRATED_TOPICS,
    DEMONSTRATION_SPLITS,
    FACT_TASKS,
    RECIPES,
    REQUESTS,
    SHIFTED,
    SPLITS,
)
from rlhf_rm.data.world.tasks import (
    HELD_OUT,
    KNOWN,
    PromptMix,
    Target,
    Task,
    World,
    draw_prompt,
    read_task,
    targets,
)
from rlhf_rm.errors import UserError

# Draws after which a share is taken to hold no prompt of the kind wanted.
TRIES = 400
# This share of the pairs is a right and a wrong answer in the same words and manners, as of one author.
CONTRASTED = 0.72


class ResponseGroup(NamedTuple):
    """K responses to one prompt, with their gold rewards."""

    messages: tuple[Message, ...]
    responses: tuple[str, ...]
    golds: tuple[float, ...]


class WorldSource:
    """A world made from ``seed``; every split is made at first use and kept.

    ``train_pairs``, ``validation_pairs``, ``test_pairs`` and ``shifted_pairs`` (of each of
    :data:`SHIFTED`) are numbers of pairs, ``demonstrations`` a number of dialogues. Labels are drawn from
    Bradley-Terry on the gold difference in ``train`` and ``validation``; everywhere else they are its
    sign, and pairs of equal gold are left out. ``flip_rate`` swaps exactly ``round(flip_rate *
    train_pairs)`` labels of ``train`` more. Each pair's notes hold ``gold_chosen``, ``gold_rejected``,
    ``flipped`` and ``label_noise`` (1 where the label contradicts gold), which training never sees.

    Raises UserError for a number of pairs below 1 or a ``flip_rate`` outside [0, 1].
    """

    name = "synthetic"

    def __init__(
        self,
        *,
        seed: int,
        train_pairs: int,
        validation_pairs: int,
        test_pairs: int,
        shifted_pairs: int,
        demonstrations: int,
        flip_rate: float,
    ) -> None:
        if not 0 <= flip_rate <= 1:
            raise UserError(
                f"data.flip_rate is {flip_rate}, but it is a share of labels: give a number from 0 to 1."
            )
        self._sizes = {"train": train_pairs, "validation": validation_pairs, "test": test_pairs}
        self._sizes |= dict.fromkeys(SHIFTED, shifted_pairs)
        for name, size in {**self._sizes, "demonstrations": demonstrations}.items():
            if size < 1:
                raise UserError(
                    f"The synthetic world was asked for {size} of {name}: give a number of at least 1."
                )
        tenth = max(1, round(demonstrations / 10))
        self._demonstrations = {"train": demonstrations, "validation": tenth, "test": tenth}
        self._seed = seed
        self._flip_rate = flip_rate
        self._world = World(seed)
        self._pairs: dict[str, list[PreferencePair]] = {}
        self._demonstrated: dict[str, list[tuple[Message, ...]]] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        """``train``, ``validation``, ``test`` and the shifted ones."""
        return SPLITS

    def pairs(self, split: str) -> Sequence[PreferencePair]:
        """The preference pairs of one split. Raises UserError for an unknown split."""
        _check_split(split, SPLITS)
        if split not in self._pairs:
            drawn = [self._draw_pair(split, i) for i in range(self._sizes[split])]
            self._pairs[split] = self._flip(drawn) if split == "train" else drawn
        return self._pairs[split]

    def prompts(self, split: str) -> list[tuple[Message, ...]]:
        """The distinct prompts of a split's pairs, in their order."""
        return list(dict.fromkeys(pair.messages for pair in self.pairs(split)))

    def responses(self, split: str, k: int) -> list[ResponseGroup]:
        """``k`` distinct responses, with their gold, to each of :meth:`prompts`.

        Raises UserError for an unknown split or a ``k`` outside [1, 64].
        """
        if not 1 <= k <= MAX_RESPONSES:
            raise UserError(
                f"Got k={k} responses a prompt, but the synthetic world gives 1 to {MAX_RESPONSES}."
            )
        groups = []
        for i, messages in enumerate(self.prompts(split)):
            rng = self._rng("responses", split, i)
            task = self._task(messages)
            responses: dict[str, None] = {}
            while len(responses) < k:
                responses[respond(rng, task, self._world, RECIPES[split][3])] = None
            groups.append(
                ResponseGroup(messages, tuple(responses), tuple(self.gold(messages, r) for r in responses))
            )
        return groups

    def demonstrations(self, split: str) -> list[tuple[Message, ...]]:
        """Dialogues of mixed quality that end with a response, for ``train``, ``validation`` or ``test``.

        They speak of every fact of the world, those of the new topics included, as far as there are as
        many demonstrations as facts.
        """
        _check_split(split, DEMONSTRATION_SPLITS)
        if split not in self._demonstrated:
            facts = targets(KNOWN) + targets(HELD_OUT)
            self._rng("demonstrations", split).shuffle(facts)
            drawn = [self._demonstrate(split, i, facts) for i in range(self._demonstrations[split])]
            self._demonstrated[split] = drawn
        return self._demonstrated[split]

    def gold(self, messages: Sequence[Message], response: str) -> float:
        """The true reward of any string: bounded, and 0 where nothing speaks for or against it."""
        attributes = self.gold_attributes(messages, response)
        return sum(gold_reward.WEIGHTS[name] * value for name, value in attributes.items())

    def gold_attributes(self, messages: Sequence[Message], response: str) -> dict[str, float]:
        """The attributes that gold adds up, each in [-1, 1] and not yet weighted."""
        return gold_reward.gold_attributes(self._world, messages, response)

    def best_response(self, messages: Sequence[Message]) -> str:
        """A response of the highest gold. Raises UserError for a prompt that is not of this world."""
        return best(self._task(messages), self._world)

    def fingerprint(self) -> str:
        """A hash of every pair of every split."""
        return self._fingerprint

    def demonstrations_fingerprint(self) -> str:
        """A hash of the demonstrations, which no flip changes: what a base model depends on."""
        return _sha256([self.demonstrations(split) for split in DEMONSTRATION_SPLITS])

    @cached_property
    def _fingerprint(self) -> str:
        return _sha256(
            [[p.messages, p.chosen, p.rejected, dict(p.notes)] for split in SPLITS for p in self.pairs(split)]
        )

    def report(self) -> dict[str, Any]:
        """Counts of the pairs, and the share of training labels that contradict gold."""
        train = self.pairs("train")
        wrong = sum(pair.notes["label_noise"] for pair in train)
        return {
            "facts": len(self._world.facts),
            "pairs": dict(self._sizes),
            "flipped": int(sum(pair.notes["flipped"] for pair in train)),
            "label_noise": wrong / len(train),
        }

    def _rng(self, *keys: str | int) -> random.Random:
        """A generator of its own for each item, so that no number of items changes another item."""
        return random.Random("/".join(map(str, (self._seed, *keys))))

    def _task(self, messages: Sequence[Message]) -> Task:
        task = read_task(messages)
        if task is None:
            last = messages[-1].content[:80] if messages else ""
            raise UserError(
                f"{last!r} is not a prompt of the synthetic world: take one from WorldSource.prompts."
            )
        return task

    def _draw_prompt(
        self, rng: random.Random, mix: PromptMix, share: tuple[float, float], target: Target | None = None
    ) -> tuple[Message, ...] | None:
        """A prompt whose hash lies in ``share``, or None where there seems to be none."""
        for _ in range(TRIES):
            messages = draw_prompt(rng, mix, self._world, target)
            if share[0] <= _position(messages) < share[1]:
                return messages
        return None

    def _draw_pair(self, split: str, i: int) -> PreferencePair:
        mix, start, end, policy = RECIPES[split]
        noisy = split in ("train", "validation")
        rng = self._rng("pairs", split, i)
        while True:
            messages = self._draw_prompt(rng, mix, (start, end))
            if messages is None:
                continue
            first, second = self._draw_two(rng, self._task(messages), policy)
            golds = self.gold(messages, first), self.gold(messages, second)
            if first != second and (noisy or golds[0] != golds[1]):
                break
        margin = golds[0] - golds[1]
        prefers_first = rng.random() < 1 / (1 + math.exp(-margin)) if noisy else margin > 0
        if not prefers_first:
            first, second, golds = second, first, golds[::-1]
        return self._pair(split, i, messages, (first, second), golds, flipped=False)

    def _draw_two(self, rng: random.Random, task: Task, policy: Policy) -> tuple[str, str]:
        if rng.random() >= CONTRASTED:
            # Alike in what they say, each in manners of its own: mostly a matter of taste.
            outcome = draw_outcome(rng, task, policy)
            return (
                respond(rng, task, self._world, policy, outcome),
                respond(rng, task, self._world, policy, outcome),
            )
        outcomes = ["right", "wrong"]
        rng.shuffle(outcomes)
        # The same draws give the same wording and manners, as of one author.
        draws = rng.random()
        first, second = (
            respond(random.Random(f"{draws}"), task, self._world, policy, outcome) for outcome in outcomes
        )
        return first, second

    def _flip(self, pairs: list[PreferencePair]) -> list[PreferencePair]:
        flipped = set(self._rng("flips").sample(range(len(pairs)), round(self._flip_rate * len(pairs))))
        return [
            self._pair(
                "train",
                i,
                p.messages,
                (p.rejected, p.chosen),
                (p.notes["gold_rejected"], p.notes["gold_chosen"]),
                flipped=True,
            )
            if i in flipped
            else p
            for i, p in enumerate(pairs)
        ]

    def _pair(
        self,
        split: str,
        i: int,
        messages: tuple[Message, ...],
        responses: tuple[str, str],
        golds: tuple[float, float],
        *,
        flipped: bool,
    ) -> PreferencePair:
        notes = {
            "gold_chosen": golds[0],
            "gold_rejected": golds[1],
            "flipped": float(flipped),
            "label_noise": float(golds[0] < golds[1]),
        }
        return PreferencePair(messages, *responses, id=f"{split}-{i}", source=self.name, notes=notes)

    def _demonstrate(self, split: str, i: int, facts: list[Target]) -> tuple[Message, ...]:
        rng = self._rng("demonstrations", split, i)
        # Four in five speak of a fact, each fact in turn.
        target = facts[(i - i // 5) % len(facts)] if i % 5 else None
        if target is None:
            mix = PromptMix(KNOWN, False, REQUESTS)
            share = RECIPES[split][1:3]
        else:
            mix = PromptMix(KNOWN, False, FACT_TASKS)
            known = any(target.entity in names for names in KNOWN.values())
            share = RECIPES[split][1:3] if known else DEMONSTRATED_TOPICS[split]
        messages = self._draw_prompt(rng, mix, share, target)
        if messages is None:
            # A narrow share may hold no prompt about one fact or other: the next has its turn.
            return self._demonstrate(split, i + self._demonstrations[split], facts)
        response = respond(rng, self._task(messages), self._world, DEMONSTRATED)
        return (*messages, Message("assistant", response))


def _check_split(split: str, allowed: Sequence[str]) -> None:
    if split not in allowed:
        raise UserError(f"The synthetic world has no split {split!r}; take one of {', '.join(allowed)}.")


def _position(messages: Sequence[Message]) -> float:
    """Where a prompt lies in [0, 1), by its hash alone."""
    return int(_sha256([list(m) for m in messages])[:13], 16) / 16**13


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
