"""The base model of a source with demonstrations: made by SFT at first use, then cached."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from transformers import PreTrainedTokenizerBase

from rlhf_rm.commands.making import MakingSettings, fit, made_once
from rlhf_rm.data.dialogues import DialogueSource
from rlhf_rm.data.sft import DemonstrationSource, SFTDataModule
from rlhf_rm.data.types import PreferenceSource
from rlhf_rm.files import fingerprint
from rlhf_rm.methods.sft import SFTModule
from rlhf_rm.models.adapter import NoAdapter
from rlhf_rm.models.attention.base import Attention
from rlhf_rm.models.spec import ModelSpec


@dataclass(frozen=True)
class BaseSettings(MakingSettings):
    """How the base model is trained; see :class:`MakingSettings`.

    Args:
        steps: optimiser steps.
    """

    steps: int


def base_model(
    source: PreferenceSource,
    spec: ModelSpec,
    tokenizer: PreTrainedTokenizerBase,
    attention: Attention,
    *,
    cache: Path,
    settings: BaseSettings,
    callbacks: Callable[[], list[L.Callback]],
    make: bool = True,
) -> Path | None:
    """Directory of the language model that a fresh reward model starts from.

    Args:
        source: with demonstrations to make it of; otherwise there is no base model.
        spec: a model to be made fresh.
        tokenizer: of the model.
        attention: how to attend while training it.
        cache: where it is kept, under a name made from everything that it depends on.
        settings: of its training.
        callbacks: makes the callbacks to train it with, a progress bar for instance.
        make: train it if it is not there.

    Returns:
        The directory, or None for a source without a base model.
    """
    # Dialogues without preferences are there to be trained on, not to be started from.
    if not isinstance(source, DemonstrationSource) or isinstance(source, DialogueSource):
        return None
    made_of = [
        source.demonstrations_fingerprint(),
        dict(spec.architecture or {}),
        spec.max_length,
        spec.dtype,
    ]
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    key = fingerprint(made_of, vocabulary, tokenizer.chat_template, asdict(settings))
    directory = cache / "base" / key
    if not make:
        return directory
    return made_once(
        directory,
        lambda: _train(source, spec, tokenizer, attention, settings, callbacks()),
        tokenizer,
        f"making the base model of the {source.name} data by SFT",
    )


def _train(
    source: PreferenceSource,
    spec: ModelSpec,
    tokenizer: PreTrainedTokenizerBase,
    attention: Attention,
    settings: BaseSettings,
    callbacks: list[L.Callback],
) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        whole = replace(spec, adapter=NoAdapter(settings.learning_rate))
        model = whole.language_model(tokenizer, attention)
        module = SFTModule(model, *settings.optimisation, sampling=None)
        datamodule = SFTDataModule(
            source,
            tokenizer,
            layout=model.backbone.choose_layout("auto"),
            max_length=spec.max_length,
            **settings.loading,
        )
        fit(module, datamodule, callbacks, max_steps=settings.steps)
    return model.network.cpu()
