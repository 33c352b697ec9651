"""Policies that answer prompts, and learn from what a reward model says of their answers.

Shape legend: N responses, T tokens of the longest.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf_rm.data.batch import Step
from rlhf_rm.data.packing import Packing
from rlhf_rm.data.prompts import Prompt, PromptStep
from rlhf_rm.data.rollouts import Rollouts, TokenBatch
from rlhf_rm.errors import UserError
from rlhf_rm.functional.ppo import (
    Moments,
    adapted_kl_weight,
    explained_variance,
    moments,
)
from rlhf_rm.methods.ppo_settings import Limits, Shaping
from rlhf_rm.methods.rollout import Answers, answer, look_back, measures, texts, value_tokens
from rlhf_rm.methods.scorer import ResponseScorer
from rlhf_rm.methods.step import TEXTS_SHOWN, OptimizerFactory, SchedulerFactory, StepModule
from rlhf_rm.metrics.bootstrap import share_interval
from rlhf_rm.models.actor_critic import ActorCritic
from rlhf_rm.models.generate import Engine, Generator, Response, Sampling
from rlhf_rm.models.language import LanguageModel


class PolicyModule(StepModule):
    """What methods share that train a policy on its own responses; a subclass has the training step.

    An iteration begins with responses to its prompts (:meth:`begin`); then come the optimiser steps that
    learn from them, each an item of the loader. Responses, and what is known of them, are part of a
    checkpoint, so a run goes on in the middle of an iteration.

    Args:
        model: actor, critic and reference.
        scorer: gives the rewards.
        optimizer, scheduler, gradient_clip: see :class:`StepModule`.
        sampling: how responses are drawn. Training takes their probabilities at the same temperature, but
            knows of neither ``top_p`` nor ``repetition_penalty``.
        k: responses to each prompt.
        engine: draws them.
        shaping, limits: see there.

    Attributes:
        rollouts: the responses of this iteration.
        spoken: what policy and reference answered in the test, as ``samples`` and ``samples_reference``.

    Raises:
        UserError: a setting out of its range.
    """

    measures = ("reward", "gold", "length", "finished")
    shards = True

    def __init__(
        self,
        model: ActorCritic,
        scorer: ResponseScorer,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
        gradient_clip: float | None,
        *,
        sampling: Sampling,
        k: int,
        engine: Engine,
        shaping: Shaping,
        limits: Limits,
    ) -> None:
        super().__init__(optimizer, scheduler, gradient_clip)
        if sampling.temperature == 0:
            raise UserError("sampling.temperature=0 always says the same, and nothing is learnt from that.")
        self.model, self.scorer, self.sampling = model, scorer, sampling
        self.k, self.engine = k, engine
        self.shaping, self.limits = shaping, limits
        self.kl_weight = shaping.kl_weight
        self.seen = Moments()
        self.rollouts: Rollouts | None = None
        self.first: Moments | None = None
        self.evaluated: dict[str, Moments] = {}
        self.tested: dict[str, Moments] = {}
        self.spoken: dict[str, list[tuple[Prompt, Response]]] = {}

    def sharded(self) -> list[nn.Module]:
        """Actor, critic and reference; what scores the responses is whole on every rank."""
        return self.model.parts

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def on_fit_start(self) -> None:
        """Say where sampling and training differ."""
        if self.sampling.top_p < 1 or self.sampling.repetition_penalty != 1:
            self.print(
                f"Warning: sampling.top_p={self.sampling.top_p} and sampling.repetition_penalty="
                f"{self.sampling.repetition_penalty} draw from another distribution than the one that is "
                "trained, which makes the updates off-policy: 1 and 1 do not."
            )

    def begin(self, step: PromptStep) -> None:
        """Let the actor answer, and work out what its tokens were worth."""
        prompts = self._datamodule.prompts("train")
        # From the generator that StepSeed seeds, so that an interrupted run draws the same.
        seed = int(torch.randint(2**62, ()))
        actor = self.whole_network(self.model.actor)
        answers = self._answer(actor, [prompts[i] for i in step.prompts], self.k, seed)
        rollouts = answers.rollouts()
        entropy_NT = look_back(
            self.model,
            rollouts,
            self.token_batches(rollouts),
            temperature=self.sampling.temperature,
        )
        rewards = self._moments(answers.reward_N)
        if rewards.deviation == 0 and rewards.number > 1:
            raise UserError(
                f"the reward model gives all {rewards.number:.0f} responses of an iteration the same reward, "
                f"{rewards.mean:g}: there is nothing to learn from it."
            )
        self.first = self.first or rewards
        self.seen = self.seen.merged(rewards)
        advantage_NT = value_tokens(rollouts, answers, self.shaping, self.seen, kl_weight=self.kl_weight)
        spread = self._moments(advantage_NT[rollouts.own])
        rollouts.whiten(advantage_NT, spread)
        self.rollouts = rollouts
        self._remember(answers, rollouts, entropy_NT, rewards)

    def _remember(self, answers: Answers, rollouts: Rollouts, entropy_NT: Tensor, rewards: Moments) -> None:
        """Measure the iteration, adapt β, and stop where the run has gone wrong."""
        told = {
            name: self._moments(value).mean for name, value in measures(answers, rollouts, entropy_NT).items()
        }
        return_L = rollouts.return_NT[rollouts.own]
        left = self._moments(return_L - rollouts.value_NT[rollouts.own])
        self.history.append(
            {
                "step": self.global_step,
                **{name: value for name, value in told.items() if name != "surprise"},
                "perplexity": math.exp(min(told["surprise"], 700.0)),
                "kl_weight": self.kl_weight,
                "explained_variance": explained_variance(left, self._moments(return_L)),
                "rollouts_per_second": self.trainer.world_size * len(rollouts) / answers.seconds,
                "texts": texts(answers, rollouts, TEXTS_SHOWN),
            }
        )
        if self.shaping.kl_target is not None:
            self.kl_weight = adapted_kl_weight(
                self.kl_weight,
                told["kl"],
                target=self.shaping.kl_target,
                horizon=self.shaping.kl_horizon,
                responses=int(rewards.number),
            )
        assert self.first is not None
        why = self.limits.why_lost(told["kl"], rewards, self.first)
        if why is not None:
            self.trainer.should_stop = True
            self.print(
                f"Stopped at step {self.global_step}: {why}. The usual causes: a learning rate that is too "
                "high, or too small a ppo.shaping.kl_weight."
            )

    def token_batches(self, rollouts: Rollouts, groups: Sequence[int] | None = None) -> Step[TokenBatch]:
        """Forward passes over the responses to some prompts, or to all, as many on each rank as it takes."""
        batches = rollouts.batches(self.packing, groups)
        return self.evened(Step(tuple(batch.to(self.device) for batch in batches)), TokenBatch.idle)

    def _answer(self, network: PreTrainedModel, prompts: list[Any], k: int, seed: int) -> Answers:
        datamodule = self._datamodule
        generator = Generator(
            network,
            datamodule.tokenizer,
            self.sampling,
            self.engine,
            max_length=datamodule.encoder.max_length,
        )
        return answer(generator, self.scorer, prompts, k, seed=seed, source=datamodule.source)

    def validation_step(self, step: PromptStep, batch_idx: int) -> None:
        """Let the actor answer prompts of the validation split."""
        self._evaluate("validation", step, {"": self.model.actor})

    def on_validation_epoch_end(self) -> None:
        """Log the means."""
        self._log_evaluated("val")
        self.spoken = {}  # what is kept is said in the test

    def test_step(self, step: PromptStep, batch_idx: int) -> None:
        """Let the actor answer prompts of the test split, and the reference as well."""
        with self.model.reference() as reference:
            self._evaluate("test", step, {"_reference": reference})
        self._evaluate("test", step, {"": self.model.actor})

    def on_test_epoch_start(self) -> None:
        """Forget an earlier test."""
        self.spoken = {}

    def on_test_epoch_end(self) -> None:
        """Log the means, and gather what was said."""
        self._log_evaluated("test")
        # A rank for which no prompt was left takes part as well.
        names = ("samples", "samples_reference")
        self.spoken = {name: self._of_all_ranks(self.spoken.get(name, [])) for name in names}

    def _evaluate(self, split: str, step: PromptStep, policies: Mapping[str, LanguageModel]) -> None:
        prompts = self._datamodule.prompts(split)
        for suffix, policy in policies.items():
            network = self.whole_network(policy)
            if not step.prompts:
                continue
            # The same draws whenever it is measured, for the reference too.
            answers = self._answer(network, [prompts[i] for i in step.prompts], 1, seed=step.prompts[0])
            said = zip(answers.prompts, answers.responses, strict=True)
            self.spoken.setdefault(f"samples{suffix}", []).extend(said)
            for name, value_N in answers.measures().items():
                key = f"{name}{suffix}"
                self.evaluated[key] = self.evaluated.get(key, Moments()).merged(moments(value_N))

    def _log_evaluated(self, split: str) -> None:
        names = [f"{name}{suffix}" for suffix in ("", "_reference") for name in self.measures]
        found = {name: self._over_ranks(self.evaluated.get(name, Moments())) for name in names}
        self.evaluated = {name: spread for name, spread in found.items() if spread.number}
        for name, spread in self.evaluated.items():
            self.log(f"{split}/{name}", spread.mean, prog_bar=name == "reward")
        if split == "test":
            self.tested = dict(self.evaluated)
        self.evaluated = {}

    def results(self) -> dict[str, Any]:
        """What ``metrics.json`` holds of the test: means over its prompts, with 95 % intervals."""
        found: dict[str, Any] = {}
        for name, spread in self.tested.items():
            number = int(spread.number)  # of prompts, the same for each
            interval = spread.interval
            if name.startswith("finished"):
                interval = share_interval(round(spread.mean * number), number)
            found |= {"prompts": number, name: spread.mean, f"{name}_ci95": interval}
        iterations = [{k: v for k, v in one.items() if k != "texts"} for one in self.history]
        return {"sets": {"test": found} if found else {}, "history": iterations}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Beside what is trained, what the run knows of its responses; of every rank."""
        super().on_save_checkpoint(checkpoint)
        own = self.rollouts.state_dict() if self.rollouts is not None else None
        everyone = self._of_all_ranks([own])
        checkpoint["ppo"] = {
            "kl_weight": self.kl_weight,
            "seen": tuple(self.seen),
            "first": tuple(self.first) if self.first else None,
            "rollouts": everyone,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The reverse.

        Raises:
            UserError: it was saved by another number of ranks.
        """
        super().on_load_checkpoint(checkpoint)
        state = checkpoint["ppo"]
        if len(state["rollouts"]) != self.trainer.world_size:
            raise UserError(
                f"the checkpoint holds the responses of {len(state['rollouts'])} ranks, but there are "
                f"{self.trainer.world_size}: resume with as many."
            )
        self.kl_weight, self.seen = state["kl_weight"], Moments(*state["seen"])
        self.first = Moments(*state["first"]) if state["first"] else None
        own = state["rollouts"][self.trainer.global_rank]
        self.rollouts = Rollouts.from_state(own) if own is not None else None

    @property
    def packing(self) -> Packing:
        """Of the actor's tokens."""
        packing: Packing = self._datamodule.packing
        return packing

    @property
    def _datamodule(self) -> Any:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def _moments(self, value_N: Tensor) -> Moments:
        """Moments of what all ranks have."""
        return self._over_ranks(moments(value_N))

    def _of_all_ranks(self, own: list[Any]) -> list[Any]:
        if self.trainer.world_size == 1:
            return own
        everyone: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(everyone, own)
        return [one for some in everyone for one in some]

    def _over_ranks(self, own: Moments) -> Moments:
        total = Moments()
        for one in self._of_all_ranks([own]):
            total = total.merged(one)
        return total
