"""Preference pairs, with a stream beside them of responses that the policy gives now."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch.utils.data import Sampler

from rlhf_rm import __version__
from rlhf_rm.data.batch import PairBatch, Step, TensorRecord
from rlhf_rm.data.contrastive import ContrastiveDataModule
from rlhf_rm.data.loading import StepLoader, step_loader, step_sampler
from rlhf_rm.data.preference import PreferenceDataModule
from rlhf_rm.data.prompts import Prompt
from rlhf_rm.data.reading import check_file
from rlhf_rm.data.response_file import read_responses
from rlhf_rm.data.sampling import StepSampler
from rlhf_rm.data.shifted import ResponseBatch, ShiftedResponses, encode_responses, split_prompts
from rlhf_rm.data.world.source import WorldSource
from rlhf_rm.errors import UserError
from rlhf_rm.files import cached_directory, fingerprint, sha256

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MetaStep(TensorRecord):
    """One optimiser step of MetaRM; iterating goes over the preferences.

    Args:
        preferences: what is learnt, the paper's X_t.
        responses: what is climbed on before, the paper's X_s.
    """

    preferences: Step[PairBatch]
    responses: Step[ResponseBatch]

    def __iter__(self) -> Iterator[PairBatch]:
        return iter(self.preferences)


class MetaSampler(Sampler[tuple[list[int], list[int]]]):
    """Deals prompts to every step of preferences, in epochs of their own; a pure function of seed and step.

    Args:
        preferences: deals pairs; its epochs are those of the run.
        responses: deals prompts; it begins anew when all have come.
    """

    def __init__(self, preferences: StepSampler, responses: StepSampler) -> None:
        self.preferences, self.responses = preferences, responses

    def __len__(self) -> int:
        return len(self.preferences)

    def __iter__(self) -> Iterator[tuple[list[int], list[int]]]:
        # The preferences come first: they alone end.
        yield from zip(self.preferences, self._endless(), strict=False)

    def _endless(self) -> Iterator[list[int]]:
        epoch, first = self.responses.position()
        while True:
            yield from self.responses.steps(epoch, first)
            epoch, first = epoch + 1, 0


class MetaDataModule(PreferenceDataModule):
    """As :class:`PreferenceDataModule`; a training step also has responses to prompts, without labels.

    The prompts of the two need not be the same. Source: paper, section 4.

    Args:
        responses: JSON lines of ``prompt`` and ``responses``, as `rlhf-rm sample` writes them.
        k: the first so many responses to each prompt; None for all.
        prompts: how many a step takes on each rank.
        held_out: share of the prompts that are measured and not climbed on.

    Raises:
        UserError: a setting out of its range, no such file, a prompt with a single response, or too few
            prompts.
    """

    def __init__(
        self,
        *args: Any,
        responses: str | Path | None,
        k: int | None,
        prompts: int,
        held_out: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if responses is None:
            raise UserError(
                "method=meta needs what the policy says now: add meta.responses=FILE, as `rlhf-rm sample "
                "run=POLICY k=5` writes it. Only the synthetic world makes its own, and this is "
                f"{self.source.name} data."
            )
        if (k is not None and k < 2) or prompts < 1 or not 0 < held_out < 1:
            raise UserError(
                f"meta.k={k} must be at least 2, or null for all; meta.prompts={prompts} at least 1; and "
                f"meta.held_out={held_out} between 0 and 1."
            )
        self.response_file, self.k, self.prompts, self.held_out = Path(responses), k, prompts, held_out
        self._shifted: dict[str, ShiftedResponses] = {}

    def setup(self, stage: str) -> None:
        """As in the base class, and encode the responses."""
        super().setup(stage)
        if stage == "fit":
            self.shifted("train")
            self.shifted("validation")

    def shifted(self, split: str) -> ShiftedResponses:
        """The responses of ``train`` or of ``validation``, encoded at first use.

        Raises:
            UserError: see the class.
        """
        if not self._shifted:
            name = f"responses_{self._responses_key}"
            directory = cached_directory(self._directory / name, self._encode_responses)
            self._shifted = {
                name: ShiftedResponses.open(directory / name) for name in ("train", "validation")
            }
            self._check_shifted()
        return self._shifted[split]

    def train_dataloader(self) -> StepLoader:
        """Shuffled steps of exactly ``batch_size`` pairs and ``prompts`` prompts."""
        trainer = self.trainer
        assert trainer is not None
        shifted = self.shifted("train")
        preferences = step_sampler(
            trainer, self.split("train").sizes, batch_size=self.batch_size, seed=self.seed
        )
        sizes = shifted.trees.sizes(self.packing.layout)
        responses = step_sampler(trainer, sizes, batch_size=self.prompts, seed=self.seed)
        responses.steps_an_epoch = None
        return step_loader(self.meta_step, MetaSampler(preferences, responses), trainer, self.workers)

    def meta_step(self, indices: Sequence[Any]) -> MetaStep:
        """The micro-batches of one training step with these examples, and with these prompts."""
        examples, prompts = indices
        return MetaStep(self.train_step(examples), self.shifted("train").step(prompts, self.packing))

    def state_dict(self) -> dict[str, Any]:
        """As in the base class, with a hash of the responses."""
        return super().state_dict() | {"responses": self._responses_key}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in the base class; other responses are refused too.

        Raises:
            UserError: see above.
        """
        super().load_state_dict(state_dict)
        if state_dict["responses"] != self._responses_key:
            raise UserError(
                f"the checkpoint was made with other responses than those of {self.response_file}: resume "
                "with the settings of its run, which lie in the run's config.yaml, or start anew."
            )

    def report(self) -> dict[str, Any]:
        """See :class:`~rlhf_rm.data.module.StepDataModule`."""
        told = {name: shifted.report for name, shifted in self._shifted.items()}
        return super().report() | {"responses": {"path": str(self.response_file), **told}}

    @cached_property
    def _responses_key(self) -> str:
        """A name for the encoded responses; checkpoints keep it too, so the file is read for it once."""
        check_file(self.response_file)
        content = sha256(self.response_file)
        return fingerprint(__version__, content, self.k, self.held_out, self._key("train"))

    def _encode_responses(self, directory: Path) -> None:
        found = read_responses(self.response_file, "error")
        taken = {prompt: texts[: self.k] for prompt, texts in found.items()}
        single = sum(len(texts) < 2 for texts in taken.values())
        if single:
            raise UserError(
                f"{single} of the {len(taken)} prompts of {self.response_file} have a single response, which "
                "has none to differ from: sample with k=5, or leave these prompts out."
            )
        short = sum(len(texts) < (self.k or 0) for texts in taken.values())
        if short:
            log.warning("%d of %d prompts have fewer than meta.k=%s responses", short, len(taken), self.k)
        for name, side in split_prompts(taken, self.held_out).items():
            (directory / name).mkdir()
            encode_responses(self.encoder, side, self._gold, directory / name)

    def _gold(self, prompt: Prompt, response: str) -> float:
        return self.source.gold(prompt, response) if isinstance(self.source, WorldSource) else float("nan")

    def _check_shifted(self) -> None:
        """Refuse too few prompts, and say what was left out."""
        reports = [shifted.report for shifted in self._shifted.values()]
        total = {name: sum(report[name] for report in reports) for name in reports[0]}
        log.info(
            "responses: %d to %d prompts, of which %d are held out; prompts left out since all their "
            "responses are equal: %d",
            total["responses"],
            total["prompts"],
            len(self._shifted["validation"]),
            total["prompts_all_equal"],
        )
        if total["responses_too_long"]:
            log.warning(
                "responses: %d exceed model.max_length=%d: loader.too_long=%s",
                total["responses_too_long"],
                self.encoder.max_length,
                self.encoder.too_long,
            )
        world = self.trainer.world_size if self.trainer else 1
        train, held_out = (len(self._shifted[name]) for name in ("train", "validation"))
        if train < self.prompts * world or not held_out:
            raise UserError(
                f"{self.response_file} leaves {train} prompts to climb on and {held_out} held out, but a "
                f"step takes {self.prompts} on each of {world} ranks, and at least one must be held out: "
                "sample for more prompts, or change meta.prompts or meta.held_out."
            )


class MetaContrastiveDataModule(MetaDataModule, ContrastiveDataModule):
    """As :class:`MetaDataModule`, with every pair in two views."""
