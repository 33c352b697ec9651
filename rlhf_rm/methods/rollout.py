"""Letting a policy answer prompts, and finding out what its answers were worth.

Shape legend: N responses, T tokens of the longest, L tokens of all.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from rlhf_rm.data.prompts import Prompt
from rlhf_rm.data.rollouts import Rollouts, TokenBatch
from rlhf_rm.data.types import Message
from rlhf_rm.functional.ppo import Moments, generalised_advantages, token_rewards
from rlhf_rm.methods.ppo_settings import Shaping
from rlhf_rm.models.actor_critic import ActorCritic
from rlhf_rm.models.generate import Generator, Response

Scorer = Callable[[Sequence[Any]], Tensor]


@runtime_checkable
class GoldSource(Protocol):
    """A source that knows the true reward of any response to its prompts."""

    def gold(self, messages: Sequence[Message], response: str) -> float:
        """The true reward."""
        ...


@dataclass(frozen=True, slots=True)
class Answers:
    """Responses with their rewards, in the order of their prompts.

    Args:
        prompts: of each response.
        responses: N responses.
        group: position of each response's prompt among those that were asked.
        reward_N: by the reward model.
        gold_N: the true reward, where the data knows it.
        seconds: that generating and scoring took.
    """

    prompts: list[Prompt]
    responses: list[Response]
    group: list[int]
    reward_N: Tensor
    gold_N: Tensor | None
    seconds: float

    @property
    def lengths(self) -> Tensor:
        """Tokens of each response, the one that ends it included."""
        return torch.tensor([len(one.ids) for one in self.responses])

    @property
    def finished(self) -> Tensor:
        """Whether each response ended by itself."""
        return torch.tensor([one.finished for one in self.responses])

    def rollouts(self) -> Rollouts:
        """The same as what a policy learns from; nothing is known of their tokens yet."""
        tokens = [(one.prompt_ids, one.ids) for one in self.responses]
        return Rollouts.of([ids for ids, _ in tokens], [ids for _, ids in tokens], self.group, self.reward_N)

    def measures(self) -> dict[str, Tensor]:
        """What each response is like, (N,) each."""
        found = {
            "reward": self.reward_N.float(),
            "length": self.lengths.float(),
            "finished": self.finished.float(),
        }
        return found if self.gold_N is None else {**found, "gold": self.gold_N.float()}


def answer(
    generator: Generator, scorer: Scorer, prompts: Sequence[Prompt], k: int, *, seed: int, source: Any
) -> Answers:
    """``k`` responses to each prompt, scored.

    Args:
        generator: of the policy.
        scorer: gives the reward of dialogues, (N,).
        prompts: messages up to the response.
        k: responses to each.
        seed: of the draws.
        source: of the prompts; gold is taken if it is a :class:`GoldSource`.
    """
    began = time.perf_counter()
    found = generator.responses(prompts, k, seed=seed)
    asked = [prompt for prompt in prompts for _ in range(k)]
    responses = [one for some in found for one in some]
    dialogues = [(prompt, one.text) for prompt, one in zip(asked, responses, strict=True)]
    reward_N = scorer(dialogues)
    seconds = time.perf_counter() - began
    gold_N = None
    if isinstance(source, GoldSource):
        gold_N = torch.tensor([source.gold(prompt, text) for prompt, text in dialogues])
    group = [g for g in range(len(prompts)) for _ in range(k)]
    return Answers([tuple(prompt) for prompt in asked], responses, group, reward_N, gold_N, seconds)


@torch.no_grad()
def look_back(
    model: ActorCritic, rollouts: Rollouts, batches: Iterable[TokenBatch], *, temperature: float
) -> Tensor:
    """Fill in what actor, reference and critic say of responses; the actor's entropies, (N, T).

    Args:
        model: as it was when it spoke.
        rollouts: of which nothing is known yet.
        batches: forward passes over them.
        temperature: at which they were drawn.
    """
    entropy_NT = torch.zeros_like(rollouts.old_NT)
    for batch in batches:
        spoken = model.policy(batch, temperature=temperature)
        where = batch.response_L.cpu(), batch.offset_L.cpu()
        rollouts.old_NT[where] = spoken.log_prob_L.cpu()
        entropy_NT[where] = spoken.entropy_L.cpu()
        rollouts.reference_NT[where] = model.reference_log_probs(batch, temperature=temperature).cpu()
        rollouts.value_NT[where] = model.values(batch).cpu()
    return entropy_NT


def value_tokens(
    rollouts: Rollouts, answers: Answers, shaping: Shaping, seen: Moments, *, kl_weight: float
) -> Tensor:
    """Fill in the returns; the advantages, not yet whitened, (N, T).

    Args:
        rollouts: with the log-probabilities and values of their tokens.
        answers: the same responses.
        shaping: from scores to rewards.
        seen: scores so far, these included.
        kl_weight: β.
    """
    score_N = rollouts.score_N.float()
    if shaping.normalise:
        score_N = (score_N - seen.mean) / max(seen.deviation, 1e-6)
    if shaping.clip is not None:
        score_N = score_N.clamp(-shaping.clip, shaping.clip)
    score_N = score_N - shaping.missing_eos_penalty * (~answers.finished).float()
    log_ratio_NT = rollouts.old_NT - rollouts.reference_NT
    advantage_NT = generalised_advantages(
        token_rewards(score_N, log_ratio_NT, rollouts.length_N, kl_weight=kl_weight),
        rollouts.value_NT,
        rollouts.length_N,
        discount=shaping.discount,
        trace_decay=shaping.trace_decay,
    )
    rollouts.return_NT = advantage_NT + rollouts.value_NT
    return advantage_NT


def measures(answers: Answers, rollouts: Rollouts, entropy_NT: Tensor) -> dict[str, Tensor]:
    """What responses and their tokens were like, by name, (N,) or (L,) each; means of these are logged.

    Args:
        answers: the responses.
        rollouts: what is known of them, returns included.
        entropy_NT: of the actor at each token.
    """
    own_NT = rollouts.own
    return {
        **answers.measures(),
        "kl": (rollouts.old_NT - rollouts.reference_NT).sum(1),
        "surprise": -rollouts.reference_NT[own_NT],
        "rollout_entropy": entropy_NT[own_NT],
        "return": rollouts.return_NT[:, :1].flatten(),
    }


def texts(answers: Answers, rollouts: Rollouts, count: int) -> list[dict[str, Any]]:
    """The first responses, to be read, with what is known of each."""
    kl_N = (rollouts.old_NT - rollouts.reference_NT).sum(1)
    return [
        {
            "prompt": answers.prompts[n][-1].content,
            "response": answers.responses[n].text,
            **{name: float(value_N[n]) for name, value_N in answers.measures().items()},
            "kl": float(kl_N[n]),
        }
        for n in range(min(count, len(rollouts)))
    ]
