"""From a composed configuration to the objects of a run."""

from dataclasses import dataclass
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig
from transformers import PreTrainedTokenizerBase

from rlhf_rm.commands.base_model import base_model
from rlhf_rm.commands.policy import made_reward_model
from rlhf_rm.commands.responses import drawn, made_responses
from rlhf_rm.data.module import StepDataModule
from rlhf_rm.data.sft import training_dialogues
from rlhf_rm.data.types import PreferenceSource
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
class Run:
    """What a training run is made of."""

    source: PreferenceSource
    tokenizer: PreTrainedTokenizerBase
    model: RewardModel | FullEnsemble | LanguageModel | ActorCritic
    module: StepModule
    datamodule: StepDataModule


def build_run(cfg: DictConfig) -> Run:
    """Source, tokenizer, network, method and data module, in the order in which each needs the last."""
    cache = Path(cfg.paths.cache_dir)
    source: PreferenceSource = instantiate(cfg.data)
    spec: ModelSpec = instantiate(cfg.model)
    attention: Attention = instantiate(cfg.attention)
    tokenizer = build_tokenizer(spec, source, cache)
    start = _base(cfg, source, spec, tokenizer, attention)
    if "scorer" in cfg.method.module and cfg.ppo.reward is None:
        made = made_reward_model(
            source,
            spec,
            tokenizer,
            attention,
            start,
            cache=cache,
            settings=instantiate(cfg.ppo.reward_model.settings),
            callbacks=lambda: [instantiate(one) for one in cfg.ppo.reward_model.callbacks.values()],
        )
        cfg.ppo.reward = str(made)
        # A rank that Lightning started reads a configuration in which these do not follow any more.
        cfg.method.network.reward = cfg.method.module.scorer.reward = cfg.ppo.reward
    if "ascent" in cfg.method.module and cfg.meta.responses is None and start is not None:
        made = made_responses(
            source,
            start,
            tokenizer,
            attention,
            cache=cache,
            sampling=instantiate(cfg.sampling),
            engine=cfg.engine,
            k=drawn(cfg.meta),
            prompts=cfg.meta.made.prompts,
            seed=cfg.meta.made.seed,
        )
        cfg.meta.responses = cfg.method.datamodule.responses = str(made)
    network = instantiate(cfg.method.network)(spec, tokenizer, attention, start)
    datamodule = instantiate(cfg.method.datamodule)(
        source,
        tokenizer,
        layout=network.backbone.choose_layout(cfg.loader.layout),
        max_length=spec.max_length,
    )
    return Run(source, tokenizer, network, instantiate(cfg.method.module)(network), datamodule)


def _base(
    cfg: DictConfig,
    source: PreferenceSource,
    spec: ModelSpec,
    tokenizer: PreTrainedTokenizerBase,
    attention: Attention,
) -> Path | None:
    """The base model that a fresh one starts from, if the data has one."""
    if spec.path is not None or not cfg.base.enabled:
        return None
    return base_model(
        source,
        spec,
        tokenizer,
        attention,
        cache=Path(cfg.paths.cache_dir),
        settings=instantiate(cfg.base.settings),
        callbacks=lambda: [instantiate(one) for one in cfg.base.callbacks.values()],
    )


def starting_policy(cfg: DictConfig) -> Path | str:
    """The language model that a training by this configuration would start from, made if the data makes one.

    Raises:
        UserError: it would start from random weights.
    """
    spec: ModelSpec = instantiate(cfg.model)
    if spec.path is not None:
        return find_model(spec.path)
    source: PreferenceSource = instantiate(cfg.data)
    tokenizer = build_tokenizer(spec, source, Path(cfg.paths.cache_dir))
    start = _base(cfg, source, spec, tokenizer, instantiate(cfg.attention))
    if start is None:
        raise UserError(
            f"a policy of random weights has nothing to say, and {source.name} data makes none: "
            "name one that is fine-tuned, policy='{model.path: DIR, model.architecture: null, "
            "model.vocab_size: null}'."
        )
    return start


def build_tokenizer(spec: ModelSpec, source: PreferenceSource, cache: Path) -> PreTrainedTokenizerBase:
    """The model's own tokenizer, or one trained on the source's training text and cached.

    Raises:
        UserError: there is no training text.
    """
    if spec.vocab_size is None:
        return spec.tokenizer(None)
    dialogues, made_from = training_dialogues(source)
    if not dialogues:
        raise UserError(
            f"the train split of {source.name} has nothing to train a tokenizer on: give more data, or "
            "smaller data.validation_fraction and data.test_fraction."
        )
    directory = cache / "tokenizers" / fingerprint(made_from, spec.vocab_size, spec.template)
    return spec.tokenizer(cached_tokenizer(dialogues, spec.vocab_size, spec.template, directory))
