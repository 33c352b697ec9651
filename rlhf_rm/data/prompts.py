"""Prompts for a policy to answer, and which of its answers it learns from when."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import lightning as L
import numpy as np
from torch.utils.data import Sampler

from rlhf_rm.data.batch import Step, TensorRecord, TextBatch
from rlhf_rm.data.encode import Dialogue
from rlhf_rm.data.loading import StepLoader, step_loader, step_sampler
from rlhf_rm.data.module import StepDataModule
from rlhf_rm.data.sampling import StepSampler
from rlhf_rm.data.sft import SFTDataModule, dialogues_of
from rlhf_rm.data.template import render
from rlhf_rm.data.types import Message, PreferenceSource
from rlhf_rm.errors import UserError

log = logging.getLogger(__name__)
Prompt = tuple[Message, ...]


@runtime_checkable
class PromptSource(Protocol):
    """A source that has prompts, whether or not it has preferences."""

    def prompts(self, split: str) -> Sequence[Prompt]:
        """The distinct prompts of a split, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class PromptStep(TensorRecord):
    """One optimiser step over answers to prompts.

    Args:
        prompts: positions in the split of the prompts that are answered in this step's iteration.
        part: which of those, counted from 0, this step learns from.
        begins: whether the iteration begins here, so that the prompts are answered first.
        texts: dialogues to be imitated beside; empty for none.
    """

    prompts: tuple[int, ...]
    part: tuple[int, ...]
    begins: bool
    texts: Step[TextBatch]


class Turn(NamedTuple):
    """A :class:`PromptStep` before its texts are packed; ``number`` is that of the step in the run."""

    prompts: tuple[int, ...]
    part: tuple[int, ...]
    begins: bool
    number: int


class IterationSampler(Sampler[Turn]):
    """Splits every iteration into ``passes`` over its prompts, of ``minibatches`` steps each.

    A pure function of seed, epoch and step, so a run that was stopped within an iteration goes on there.

    Args:
        prompts: deals each iteration's prompts; counts iterations.
        steps_done: optimiser steps of the run so far.
        minibatches: steps in which every prompt comes once.
        passes: how often each prompt comes.
    """

    def __init__(
        self, prompts: StepSampler, steps_done: Callable[[], int], *, minibatches: int, passes: int
    ) -> None:
        self.prompts, self.steps_done = prompts, steps_done
        self.minibatches, self.passes = minibatches, passes

    @property
    def steps(self) -> int:
        """Optimiser steps of one iteration."""
        return self.minibatches * self.passes

    def __len__(self) -> int:
        return len(self.prompts) * self.steps

    def __iter__(self) -> Iterator[Turn]:
        number = self.steps_done()
        within = number % self.steps
        for prompts in self.prompts.steps(*self.prompts.position()):
            for step in range(within, self.steps):
                yield Turn(tuple(prompts), self._part(number, step, len(prompts)), step == 0, number)
                number += 1
            within = 0

    def _part(self, number: int, step: int, count: int) -> tuple[int, ...]:
        """The positions that a step learns from; each pass has an order of its own."""
        first_of_pass = number - step % self.minibatches
        order = np.random.default_rng([self.prompts.seed, first_of_pass]).permutation(count)
        size = count // self.minibatches
        begin = step % self.minibatches * size
        return tuple(int(i) for i in order[begin : begin + size])


class PromptDataModule(StepDataModule):
    """Serves prompts to :class:`~rlhf_rm.methods.ppo.PPOModule`; see :class:`StepDataModule`.

    The prompts are the source's own, or those of its preference pairs, each once. ``batch_size`` counts
    prompts; an iteration answers ``batch_size * minibatches`` of them on each rank and learns ``passes``
    times from each.

    Args:
        minibatches, passes: see :class:`IterationSampler`.
        max_new_tokens: most tokens of a response, for which there must be room.
        texts: dialogues of each step to imitate beside; 0 for none.
        evaluated: prompts of the validation and of the test split that are answered.

    Raises:
        UserError: a number below 1, or no room.
    """

    unit = "prompts"

    def __init__(
        self,
        source: PreferenceSource,
        *args: Any,
        minibatches: int,
        passes: int,
        max_new_tokens: int,
        texts: int,
        evaluated: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(source, *args, **kwargs)
        if minibatches < 1 or passes < 1 or evaluated < 1 or texts < 0:
            raise UserError(
                f"ppo.minibatches={minibatches}, ppo.passes={passes} and ppo.evaluated={evaluated} must be "
                f"at least 1, and ppo.pretraining_dialogues={texts} at least 0."
            )
        self.minibatches, self.passes, self.evaluated = minibatches, passes, evaluated
        self.room = self.encoder.max_length - max_new_tokens
        if self.room < 1:
            raise UserError(
                f"sampling.max_new_tokens={max_new_tokens} leaves no room for a prompt: the model takes "
                f"{self.encoder.max_length} tokens."
            )
        self.texts = texts
        self._demonstrations = (
            SFTDataModule(source, *args, **kwargs | {"batch_size": texts}) if texts else None
        )
        self._prompts: dict[str, list[Prompt]] = {}
        self.too_long = 0  # prompts that were dropped, or will lose their beginning

    def prompts(self, split: str) -> list[Prompt]:
        """The distinct prompts of a split, in their order, less those that are too long if so wanted.

        Raises:
            UserError: there are none, or a prompt is too long and ``too_long`` is ``error``.
        """
        if split not in self._prompts:
            found = prompts_of(self.source, split)
            kept = found if split == "train" else found[: self.evaluated]
            self._prompts[split] = self._fitting(split, kept)
        return self._prompts[split]

    def sizes(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt."""
        texts = render(self.tokenizer, prompts, add_generation_prompt=True)
        return [len(ids) for ids in self.tokenizer(texts, add_special_tokens=False, verbose=False).input_ids]

    def _fitting(self, split: str, prompts: list[Prompt]) -> list[Prompt]:
        """Those that leave room for a response, or all if the others are to be cut; how many is said."""
        sizes = self.sizes(prompts)
        long = [size for size in sizes if size > self.room]
        if not long:
            return prompts
        if self.encoder.too_long == "error":
            raise UserError(
                f"{len(long)} of {len(prompts)} prompts are longer than the {self.room} tokens that "
                f"model.max_length={self.encoder.max_length} leaves beside a response, the longest "
                f"{max(long)}: lower sampling.max_new_tokens, or use loader.too_long=truncate_prompt_left "
                "or drop."
            )
        self.too_long += len(long)
        cut = self.encoder.too_long == "truncate_prompt_left"
        fate = "lose their beginning" if cut else "are left out"
        log.info("%s: %d of %d prompts are too long and %s", split, len(long), len(prompts), fate)
        if cut:
            return prompts
        kept = [prompt for prompt, size in zip(prompts, sizes, strict=True) if size <= self.room]
        if not kept:
            raise UserError(
                f"all {len(prompts)} prompts are longer than {self.room} tokens: raise model.max_length, or "
                "use loader.too_long=truncate_prompt_left."
            )
        return kept

    def train_dataloader(self) -> StepLoader:
        """Steps of exactly ``batch_size`` prompts; the iterations' first ones ask for answers."""
        trainer = self.trainer
        assert trainer is not None
        sampler = iteration_sampler(
            trainer,
            self.sizes(self.prompts("train")),
            batch_size=self.batch_size,
            seed=self.seed,
            minibatches=self.minibatches,
            passes=self.passes,
        )
        return step_loader(self._step, sampler, trainer, self.workers)

    def val_dataloader(self) -> StepLoader:
        """The first prompts of the validation split, each once."""
        return self._evaluation("validation")

    def test_dataloader(self) -> StepLoader:
        """The first prompts of the test split, each once."""
        return self._evaluation("test")

    def probes(self, count: int = 8) -> list[Dialogue]:
        """See :class:`StepDataModule`."""
        return [(d[:-1], d[-1].content) for d in dialogues_of(self.source, "train")[:count]]

    def report(self) -> dict[str, Any]:
        """See :class:`StepDataModule`."""
        return {
            **self.source.report(),
            "fingerprint": self.source.fingerprint(),
            "prompts": {split: len(prompts) for split, prompts in self._prompts.items()},
            "prompts_too_long": self.too_long,
        }

    def _step(self, turn: Any) -> PromptStep:
        return PromptStep(turn.prompts, turn.part, turn.begins, self._texts_of(turn.number))

    def _texts_of(self, number: int) -> Step[TextBatch]:
        """The dialogues of a step of the run, drawn anew for each step."""
        if self._demonstrations is None:
            return Step(())
        count, size = len(self._demonstrations.trees("train")), self._demonstrations.batch_size
        rank = self.trainer.global_rank if self.trainer else 0
        rng = np.random.default_rng([self.seed, number, rank])
        drawn = rng.choice(count, size=min(size, count), replace=False)
        return self._demonstrations.step("train", drawn.tolist())

    def _evaluation(self, split: str) -> StepLoader:
        def step(indices: Sequence[int]) -> PromptStep:
            return PromptStep(tuple(indices), (), True, Step(()))

        return self.evaluation_steps(step, len(self.prompts(split)))  # type: ignore[arg-type]


def iteration_sampler(
    trainer: L.Trainer, sizes: Sequence[int], *, batch_size: int, seed: int, minibatches: int, passes: int
) -> IterationSampler:
    """The sampler of a training run's prompts, of these sizes in tokens."""
    dealt = step_sampler(trainer, sizes, batch_size=batch_size * minibatches, seed=seed)
    sampler = IterationSampler(dealt, lambda: trainer.global_step, minibatches=minibatches, passes=passes)
    dealt.steps_done = lambda: trainer.global_step // sampler.steps
    dealt.steps_an_epoch = None
    return sampler


def prompts_of(source: PreferenceSource, split: str) -> list[Prompt]:
    """The distinct prompts of a split, in their order.

    Raises:
        UserError: there is no such split, or it is empty.
    """
    if split not in source.splits:
        raise UserError(f"set={split} is not in {source.name} data: use one of {', '.join(source.splits)}.")
    if isinstance(source, PromptSource):
        prompts = list(source.prompts(split))
    else:
        prompts = list(dict.fromkeys(pair.messages for pair in source.pairs(split)))
    if not prompts:
        raise UserError(f"the {split} split of {source.name} has no prompts to answer.")
    return prompts
