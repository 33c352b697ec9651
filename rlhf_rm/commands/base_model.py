"""The base model of a source with demonstrations: made by SFT at first use, then cached."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from rlhf_rm.data.sft import DemonstrationSource, SFTDataModule
from rlhf_rm.data.types import PreferenceSource
from rlhf_rm.files import fingerprint, whole_directory
from rlhf_rm.methods.schedules import warmup_linear
from rlhf_rm.methods.sft import SFTModule
from rlhf_rm.models.adapter import NoAdapter
from rlhf_rm.models.attention import Attention
from rlhf_rm.models.spec import ModelSpec
from rlhf_rm.models.tokenizer import save_tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BaseSettings:
    """How the base model is trained.

    Args:
        steps: optimiser steps.
        batch_size: dialogues a step.
        learning_rate, warmup, weight_decay, gradient_clip: of AdamW and its schedule.
        row_tokens, micro_tokens: see :class:`~rlhf_rm.data.packing.Packing`.
        seed: of weights and data order. It is not the run's seed: runs of a sweep share their base.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup: float
    weight_decay: float
    gradient_clip: float
    row_tokens: int
    micro_tokens: int
    seed: int


def base_model(
    source: PreferenceSource,
    spec: ModelSpec,
    tokenizer: PreTrainedTokenizerBase,
    attention: Attention,
    *,
    cache: Path,
    settings: BaseSettings,
    callbacks: Callable[[], list[L.Callback]],
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

    Returns:
        The directory, or None for a source without a base model.
    """
    if not (isinstance(source, DemonstrationSource) and source.has_base):
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
    directory.parent.mkdir(parents=True, exist_ok=True)
    # Runs of a sweep may start together: one makes it, the others wait.
    with FileLock(directory.with_suffix(".lock")):
        if not (directory / "config.json").is_file():
            log.info("making the base model of the %s data by SFT, once: %s", source.name, directory)
            model = _train(source, spec, tokenizer, attention, settings, callbacks())
            with whole_directory(directory) as made:
                model.save_pretrained(made)
                save_tokenizer(tokenizer, made)
    return directory


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
        optimizer = partial(
            torch.optim.AdamW,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            betas=(0.9, 0.95),
        )
        schedule = partial(warmup_linear, warmup=settings.warmup, floor=0.0)
        module = SFTModule(model, optimizer, schedule, settings.gradient_clip, sampling=None)
        datamodule = SFTDataModule(
            source,
            tokenizer,
            layout=model.backbone.choose_layout("auto"),
            max_length=spec.max_length,
            too_long="truncate_prompt_left",
            batch_size=settings.batch_size,
            eval_batch_size=settings.batch_size,
            row_tokens=settings.row_tokens,
            micro_tokens=settings.micro_tokens,
            workers=0,
            seed=settings.seed,
        )
        trainer = L.Trainer(
            max_steps=settings.steps,
            accelerator="auto",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            limit_val_batches=0,
            callbacks=callbacks,
            use_distributed_sampler=False,
        )
        trainer.fit(module, datamodule=datamodule)
    return model.network.cpu()
