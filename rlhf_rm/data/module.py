"""What all data modules have in common."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import lightning as L
from transformers import PreTrainedTokenizerBase

from rlhf_rm.data.batch import Step
from rlhf_rm.data.dialogues import DialogueSource
from rlhf_rm.data.encode import Dialogue, DialogueEncoder
from rlhf_rm.data.loading import StepLoader, evaluation_loader, training_loader
from rlhf_rm.data.packing import Packing
from rlhf_rm.data.sampling import Sizes
from rlhf_rm.data.types import PreferenceSource
from rlhf_rm.errors import UserError
from rlhf_rm.files import fingerprint


class StepDataModule(L.LightningDataModule, ABC):
    """Encodes a source and serves it in whole optimiser steps.

    Args:
        source: where the examples come from.
        tokenizer: with its chat template set.
        layout: ``shared``, ``packed`` or ``padded``; see :mod:`rlhf_rm.data.packing`.
        max_length: longest sequence in tokens.
        too_long: ``truncate_prompt_left``, ``drop`` or ``error``.
        batch_size: examples of one optimiser step on each rank.
        eval_batch_size: examples packed together when nothing is learnt.
        row_tokens, micro_tokens, row_multiple: see :class:`Packing`.
        workers: processes that pack ahead; see :func:`~rlhf_rm.data.loading.training_loader`.
        seed: of the shuffle.
    """

    unit: str  # what one example is called

    def __init__(
        self,
        source: PreferenceSource,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layout: str,
        max_length: int,
        too_long: str,
        batch_size: int,
        eval_batch_size: int,
        row_tokens: int,
        micro_tokens: int,
        row_multiple: int,
        workers: int | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.source, self.tokenizer = source, tokenizer
        self.encoder = DialogueEncoder(tokenizer, max_length=max_length, too_long=too_long)
        pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.packing = Packing(layout, row_tokens, micro_tokens, pad_id, row_multiple)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.workers, self.seed = workers, seed

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint remembers of the data, and of the tokenizer that its weights know."""
        return {
            "source": self.source.name,
            "fingerprint": self.source.fingerprint(),
            "tokenizer": self._tokenizer_fingerprint,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse a checkpoint that was made on other data, or with another tokenizer.

        Raises:
            UserError: see above.
        """
        if state_dict["fingerprint"] != self.source.fingerprint():
            raise UserError(
                f"the checkpoint was made on other {state_dict['source']} data than this "
                f"{self.source.name} data: give the data of its run, with the settings that lie in the run's "
                "config.yaml, or start anew."
            )
        if state_dict.get("tokenizer") != self._tokenizer_fingerprint:
            raise UserError(
                "the checkpoint was made with another tokenizer or chat template than this one: give the "
                "model and template of its run, which lie in the run's config.yaml, or start anew."
            )

    @cached_property
    def _tokenizer_fingerprint(self) -> str:
        # How texts are cut and filled up is of the last call, not of the tokenizer.
        backend = json.loads(self.tokenizer.backend_tokenizer.to_str()) | {
            "truncation": None,
            "padding": None,
        }
        return fingerprint(backend, self.tokenizer.chat_template, self.tokenizer.special_tokens_map)

    @abstractmethod
    def probes(self, count: int = 8) -> list[Dialogue]:
        """Some prompts and responses of the training split, to compare an export by."""

    def trained_on(self) -> Sequence[str]:
        """The ``pair_id`` of each training pair; none where the data has no preferences."""
        if isinstance(self.source, DialogueSource):
            return []
        return [pair.pair_id for pair in self.source.pairs("train")]

    @abstractmethod
    def report(self) -> dict[str, Any]:
        """What was read, split, cut and left out so far."""

    def training_steps(self, collate: Callable[[Sequence[int]], Step[Any]], sizes: Sizes) -> StepLoader:
        """Shuffled steps of exactly ``batch_size`` examples of these sizes in tokens."""
        assert self.trainer is not None
        return training_loader(
            self.trainer, collate, sizes, batch_size=self.batch_size, seed=self.seed, workers=self.workers
        )

    def evaluation_steps(self, collate: Callable[[Sequence[int]], Step[Any]], count: int) -> StepLoader:
        """Every one of ``count`` examples once, in order."""
        return evaluation_loader(
            self.trainer, collate, count, batch_size=self.eval_batch_size, workers=self.workers
        )
