"""What a policy needs to learn: its critic, and the reward models that judge it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from transformers import PreTrainedTokenizerBase

from rlhf_rm.commands.making import MakingSettings, fit, made_once
from rlhf_rm.data.preference import PreferenceDataModule
from rlhf_rm.data.types import PreferenceSource
from rlhf_rm.errors import UserError
from rlhf_rm.files import fingerprint
from rlhf_rm.losses.bradley_terry import BradleyTerryLoss
from rlhf_rm.methods.reward import RewardModule
from rlhf_rm.methods.scorer import ResponseScorer
from rlhf_rm.models.actor_critic import ActorCritic
from rlhf_rm.models.adapter import NoAdapter
from rlhf_rm.models.attention.base import Attention
from rlhf_rm.models.checkpointing import checkpoint_activations
from rlhf_rm.models.load import LoadedReward, load_reward_model
from rlhf_rm.models.reward import RewardModel
from rlhf_rm.models.spec import ModelSpec

log = logging.getLogger(__name__)
CRITICS = ("auto", "reward", "policy")


def actor_critic(
    spec: ModelSpec,
    tokenizer: PreTrainedTokenizerBase,
    attention: Attention,
    start: str | Path | None = None,
    *,
    reward: str | Sequence[str],
    critic: str,
    trust_remote_code: bool,
) -> ActorCritic:
    """The policy of a model's description, with its critic.

    Args:
        spec, tokenizer, attention, start: of the policy; see :meth:`ModelSpec.language_model`.
        reward: the reward models; the critic starts from the first.
        critic: ``reward``; ``policy``, with a head of its own; or ``auto``, the first of the two that is
            possible: a critic reads the policy's tokens.
        trust_remote_code: run Python code that comes with a hub model.

    Raises:
        UserError: the critic cannot be started from the reward model.
    """
    if critic not in CRITICS:
        raise UserError(f"ppo.critic={critic} is unknown: use one of {', '.join(CRITICS)}.")
    actor = spec.language_model(tokenizer, attention, start)
    if critic == "policy":
        return ActorCritic(actor, spec.reward_model(tokenizer, attention, start))
    name = reward_names(reward)[0]
    loaded = load_reward_model(name, attention, device="cpu", trust_remote_code=trust_remote_code)
    why_not = _why_no_critic(loaded, tokenizer)
    if why_not is None:
        return ActorCritic(actor, _to_train(loaded.model, spec))
    if critic == "reward":
        raise UserError(
            f"ppo.critic=reward is not possible, since {why_not}: use ppo.critic=policy, or auto."
        )
    log.info("the critic starts from the policy and not from %s, since %s", name, why_not)
    return ActorCritic(actor, spec.reward_model(tokenizer, attention, start))


def reward_names(reward: str | Sequence[str] | None) -> list[str]:
    """The reward models that are named."""
    return [reward] if isinstance(reward, str) else list(reward or [])


def _why_no_critic(loaded: LoadedReward, tokenizer: PreTrainedTokenizerBase) -> str | None:
    if not loaded.model.backbone.is_decoder:
        return "it reads a response as a whole"
    if loaded.model.size != 1:
        return "it has several heads"
    if loaded.tokenizer.get_vocab() != tokenizer.get_vocab():
        return "its tokens are not those of the policy"
    return None


def _to_train(model: RewardModel, spec: ModelSpec) -> RewardModel:
    """A reward model that is trained as the policy is."""
    # It was opened as it was saved, where small steps would vanish in bfloat16.
    network = model.network.to(dtype=getattr(torch, spec.dtype))
    spec.adapter.apply(network, train_head=True)
    if spec.gradient_checkpointing:
        checkpoint_activations(network)
    return model.train()


def scorer(
    reward: str | Sequence[str],
    attention: Attention,
    *,
    pool: str,
    caution: float,
    row_tokens: int,
    micro_tokens: int,
    row_multiple: int,
    trust_remote_code: bool,
) -> ResponseScorer:
    """The reward models of a run; see :class:`ResponseScorer`."""
    loaded = [
        load_reward_model(name, attention, device="cpu", trust_remote_code=trust_remote_code)
        for name in reward_names(reward)
    ]
    return ResponseScorer(
        loaded,
        pool=pool,
        caution=caution,
        row_tokens=row_tokens,
        micro_tokens=micro_tokens,
        row_multiple=row_multiple,
    )


@dataclass(frozen=True)
class RewardSettings(MakingSettings):
    """How the reward model of a policy that names none is trained, in the synthetic world.

    Args:
        epochs: passes over the pairs.
    """

    epochs: int


def made_reward_model(
    source: PreferenceSource,
    spec: ModelSpec,
    tokenizer: PreTrainedTokenizerBase,
    attention: Attention,
    start: Path | None,
    *,
    cache: Path,
    settings: RewardSettings,
    callbacks: Callable[[], list[L.Callback]],
) -> Path:
    """Directory of a reward model on the source's pairs, made at first use and cached.

    Args:
        source: of preferences.
        spec, tokenizer, attention, start: of the policy; it starts where the policy does, from a base model.
        cache: where it is kept, under a name made from everything that it depends on.
        settings: of its training.
        callbacks: makes the callbacks to train it with.

    Raises:
        UserError: the source is not the synthetic world, so a reward model has to be named.
    """
    if start is None:
        raise UserError(
            "ppo.reward names no reward model: give a run, an export or a hub model, or several as a list. "
            "Only the synthetic world makes its own."
        )
    return made_once(
        cache / "reward" / fingerprint(source.fingerprint(), start.name, asdict(settings)),
        lambda: _train(source, spec, tokenizer, attention, start, settings, callbacks()),
        tokenizer,
        f"training the reward model of the {source.name} data",
    )


def _train(
    source: PreferenceSource,
    spec: ModelSpec,
    tokenizer: PreTrainedTokenizerBase,
    attention: Attention,
    start: Path,
    settings: RewardSettings,
    callbacks: list[L.Callback],
) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        whole = replace(spec, adapter=NoAdapter(settings.learning_rate))
        model = whole.reward_model(tokenizer, attention, start)
        loss = BradleyTerryLoss(label_smoothing=0.0)
        module = RewardModule(model, loss, *settings.optimisation, centring=0.0)
        datamodule = PreferenceDataModule(
            source,
            tokenizer,
            layout=model.backbone.choose_layout("auto"),
            max_length=spec.max_length,
            cache_dir=None,
            **settings.loading,
        )
        fit(module, datamodule, callbacks, max_epochs=settings.epochs)
    return model.network.cpu()
