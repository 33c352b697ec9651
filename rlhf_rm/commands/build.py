"""From a composed configuration to the objects of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from transformers import PreTrainedTokenizerBase

from rlhf_rm.commands.base_model import base_model
from rlhf_rm.commands.policy import made_reward_model
from rlhf_rm.commands.responses import drawn, made_responses
from rlhf_rm.data.module import StepDataModule
from rlhf_rm.data.sft import training_dialogues
from rlhf_rm.data.types import Message, PreferenceSource
from rlhf_rm.errors import UserError
from rlhf_rm.files import fingerprint
from rlhf_rm.methods.step import StepModule
from rlhf_rm.models.actor_critic import ActorCritic
from rlhf_rm.models.attention.base import Attention
from rlhf_rm.models.full_ensemble import FullEnsemble
from rlhf_rm.models.language import LanguageModel
from rlhf_rm.models.load import find_model
from rlhf_rm.models.reward import RewardModel
from rlhf_rm.models.spec import ModelSpec, cached_tokenizer


@dataclass(frozen=True)
class Start:
    """What every method starts from.

    Args:
        source: of the data.
        spec: describes the network; ``spec.reward_model(tokenizer, attention, base)`` makes one.
        tokenizer: of the network, with its chat template set.
        attention: how to attend.
        base: directory of the language model that a fresh network starts from; None for random weights, and
            where ``spec`` itself names a pretrained model.
    """

    source: PreferenceSource
    spec: ModelSpec
    tokenizer: PreTrainedTokenizerBase
    attention: Attention
    base: Path | None


@dataclass(frozen=True)
class Run:
    """What a training run is made of."""

    source: PreferenceSource
    tokenizer: PreTrainedTokenizerBase
    model: RewardModel | FullEnsemble | LanguageModel | ActorCritic
    module: StepModule
    datamodule: StepDataModule


def build_start(cfg: DictConfig, *, make: bool = True) -> Start:
    """Source, description of the network, tokenizer and base model; what is made on the way is cached.

    Args:
        cfg: of ``train``.
        make: train the base model if it is not there; else it is only named.
    """
    source: PreferenceSource = instantiate(cfg.data)
    spec: ModelSpec = instantiate(cfg.model)
    attention: Attention = instantiate(cfg.attention)
    cache = Path(cfg.paths.cache_dir)
    tokenizer = build_tokenizer(spec, source, cache)
    base = None
    if spec.path is None and cfg.base.enabled:
        base = base_model(
            source,
            spec,
            tokenizer,
            attention,
            cache=cache,
            settings=instantiate(cfg.base.settings),
            callbacks=lambda: objects(cfg.base.callbacks),
            make=make,
        )
    return Start(source, spec, tokenizer, attention, base)


def build_trainer(cfg: DictConfig) -> L.Trainer:
    """Lightning's trainer, with the callbacks and loggers of the configuration.

    Raises:
        UserError: a run without an end, over which no schedule can be laid.
    """
    trainer: L.Trainer = instantiate(
        cfg.trainer, callbacks=objects(cfg.callbacks), logger=objects(cfg.logger)
    )
    if trainer.max_epochs == trainer.max_steps == -1:
        raise UserError(
            "trainer.max_epochs=-1 and trainer.max_steps=-1 leave the learning rate's schedule without an "
            "end: set one of them; +trainer.max_time=… may end the run before."
        )
    return trainer


def objects(group: DictConfig | None) -> list[Any]:
    """What a group's entries name; a null is left out, and other settings are for entries to refer to."""
    return [
        instantiate(one) for one in (group or {}).values() if OmegaConf.is_dict(one) and "_target_" in one
    ]


def build_run(cfg: DictConfig, start: Start | None = None) -> Run:
    """Source, tokenizer, network, method and data module, in the order in which each needs the last.

    New weights are drawn from PyTorch's generator: call ``L.seed_everything(cfg.seed)`` before.

    Args:
        cfg: of ``train``.
        start: what was built of a configuration with the same data, model and base, to be shared by runs.
    """
    start = start or build_start(cfg)
    _make_what_is_missing(cfg, start)
    network = instantiate(cfg.method.network)(start.spec, start.tokenizer, start.attention, start.base)
    datamodule = instantiate(cfg.method.datamodule)(
        start.source,
        start.tokenizer,
        layout=network.backbone.choose_layout(cfg.loader.layout),
        max_length=start.spec.max_length,
    )
    return Run(start.source, start.tokenizer, network, instantiate(cfg.method.module)(network), datamodule)


def _make_what_is_missing(cfg: DictConfig, start: Start) -> None:
    """In the synthetic world, the reward model or the responses that a method reads and nobody named."""
    cache = Path(cfg.paths.cache_dir)
    if "scorer" in cfg.method.module and cfg.ppo.reward is None:
        reward = made_reward_model(
            start.source,
            start.spec,
            start.tokenizer,
            start.attention,
            start.base,
            cache=cache,
            settings=instantiate(cfg.ppo.reward_model.settings),
            callbacks=lambda: objects(cfg.ppo.reward_model.callbacks),
        )
        cfg.ppo.reward = str(reward)
        # A rank that Lightning started reads a configuration in which these do not follow any more.
        cfg.method.network.reward = cfg.method.module.scorer.reward = cfg.ppo.reward
    if "ascent" in cfg.method.module and cfg.meta.responses is None and start.base is not None:
        responses = made_responses(
            start.source,
            start.base,
            start.tokenizer,
            start.attention,
            cache=cache,
            sampling=instantiate(cfg.sampling),
            engine=cfg.engine,
            k=drawn(cfg.meta),
            prompts=cfg.meta.made.prompts,
            seed=cfg.meta.made.seed,
        )
        cfg.meta.responses = cfg.method.datamodule.responses = str(responses)


def starting_policy(cfg: DictConfig, *, make: bool = True) -> Path | str:
    """The language model that a training by this configuration would start from, made if the data makes one.

    Args:
        cfg: of ``train``.
        make: else one that the data makes is named, and need not be there.

    Raises:
        UserError: it would start from random weights.
    """
    spec: ModelSpec = instantiate(cfg.model)
    if spec.path is not None:
        return find_model(spec.path)
    start = build_start(cfg, make=make)
    if start.base is None:
        raise UserError(
            f"a policy of random weights has nothing to say, and {start.source.name} data makes none: "
            "name one that is fine-tuned, policy='{model.path: DIR, model.architecture: null, "
            "model.vocab_size: null}'."
        )
    return start.base


def build_tokenizer(spec: ModelSpec, source: PreferenceSource, cache: Path) -> PreTrainedTokenizerBase:
    """The model's own tokenizer, or one trained on the source's training text and cached.

    Raises:
        UserError: there is no training text.
    """
    if spec.vocab_size is None:
        return spec.tokenizer(None)
    read, made_from = training_dialogues(source)

    def dialogues() -> Sequence[Sequence[Message]]:
        found = read()
        if not found:
            raise UserError(
                f"the train split of {source.name} has nothing to train a tokenizer on: give more data, or "
                "smaller data.validation_fraction and data.test_fraction."
            )
        return found

    directory = cache / "tokenizers" / fingerprint(made_from, spec.vocab_size, spec.template)
    return spec.tokenizer(cached_tokenizer(dialogues, spec.vocab_size, spec.template, directory))
