"""Opening what was trained: a run, an export, or a model from the hub."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rlhf_rm.data.template import set_template
from rlhf_rm.errors import UserError, first_line, reading
from rlhf_rm.files import read_json
from rlhf_rm.models.attention.base import Attention
from rlhf_rm.models.hub import export_of, local_copy, why_not_loaded
from rlhf_rm.models.positions import learned_positions
from rlhf_rm.models.reward import MEMBER, RewardModel
from rlhf_rm.models.tokenizer import ensure_pad_token, load_tokenizer
from rlhf_rm.overrides import typed_path

log = logging.getLogger(__name__)

# A tokenizer that was given no limit says something astronomical.
NO_LIMIT = 10**9
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json")


@dataclass(frozen=True)
class LoadedReward:
    """A reward model ready to score.

    Args:
        model: in evaluation mode, on its device.
        tokenizer: with the chat template that it was trained with.
        max_length: longest sequence in tokens.
        directory: where it was found: an export, or a name on the hub.
    """

    model: RewardModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    directory: str


@dataclass(frozen=True)
class LoadedPolicy:
    """A language model ready to sample from.

    Args:
        network: in evaluation mode, on its device.
        tokenizer: with the chat template that it was trained with.
        max_length: longest sequence in tokens.
        directory: where it was found.
    """

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    directory: str


def find_model(run: str) -> str:
    """The directory of a run's or export's model, or a name on the hub.

    Raises:
        UserError: the directory is no run, or its run has not finished.
    """
    path = Path(run)
    if (own := export_of(run)) is not None:
        return str(own)
    for member in (path / "export" / f"{MEMBER}00", path / f"{MEMBER}00"):
        if member.is_dir():
            raise UserError(
                f"{run} is an ensemble of whole models: name one of them, such as {member}, or let "
                "`rlhf-rm vote` take all."
            )
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        return str(path)
    if path.is_dir() and (path / "config.yaml").is_file():
        raise UserError(
            f"{run} is a run that has not finished, so it has no export: go on with it (the same command "
            f"with {typed_path('hydra.run.dir', run)} resume=auto), or make one with `rlhf-rm export "
            f"{typed_path('run', run)} output=DIR`."
        )
    if path.exists():
        raise UserError(
            f"{run} is no run directory: it holds neither export/config.json nor config.json nor "
            "adapter_config.json. Name the directory that `rlhf-rm train` printed, an export, or a hub model."
        )
    if path.is_absolute() or run.startswith((".", "~")) or run.count("/") != 1:
        raise UserError(f"{run} does not exist: name a run directory, an export, or a model on the hub.")
    return run


def load_reward_model(
    run: str, attention: Attention, *, device: str, template: str = "auto", trust_remote_code: bool = False
) -> LoadedReward:
    """Open a reward model.

    Args:
        run: a run directory, an export, or a name on the hub (``org/name``, ``org/name@revision``).
        attention: how to attend.
        device: where to put it: ``cpu``, ``cuda``, …, or ``auto``.
        template: chat template; ``auto`` takes the one that comes with it.
        trust_remote_code: run Python code that comes with a hub model.

    Raises:
        UserError: there is none, or it is no reward model.
    """
    origin = str(local_copy(find_model(run)))
    adapter, origin = origin, base_of(origin)
    tokenizer = tokenizer_of(adapter, template)
    try:
        config = AutoConfig.from_pretrained(origin, trust_remote_code=trust_remote_code)
        heads = " ".join(config.architectures or [])
        if adapter == origin and "ForSequenceClassification" not in heads:
            raise UserError(
                f"{origin} holds {heads or 'a model without a head'}, not a reward model: "
                "train one with `rlhf-rm train model.path=…`."
            )
        network = AutoModelForSequenceClassification.from_pretrained(
            origin,
            dtype="auto",
            attn_implementation=attention.implementation,
            trust_remote_code=trust_remote_code,
            **({} if adapter == origin else {"num_labels": 1}),
        )
        if adapter != origin:
            network = _merged(network, adapter)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"no reward model could be loaded from {adapter}: {why_not_loaded(error)}") from error
    network, limit = _ready(network, tokenizer, device)
    return LoadedReward(RewardModel(network, attention).eval(), tokenizer, limit, adapter)


def load_policy(
    run: str, attention: Attention, *, device: str, template: str = "auto", trust_remote_code: bool = False
) -> LoadedPolicy:
    """Open a language model to sample from: an SFT run, an export, or a model of the hub.

    Args:
        run, attention, device, template, trust_remote_code: see :func:`load_reward_model`.

    Raises:
        UserError: there is none, or it is no language model.
    """
    directory = str(local_copy(find_model(run)))
    tokenizer = tokenizer_of(directory, template)
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
        heads = " ".join(config.architectures or [])
        if "ForCausalLM" not in heads:
            raise UserError(
                f"{directory} holds {heads or 'a model without a head'}, not a language model: train one "
                "with `rlhf-rm train method=sft`."
            )
        network = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype="auto",
            attn_implementation=attention.implementation,
            trust_remote_code=trust_remote_code,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"no language model could be loaded from {directory}: {why_not_loaded(error)}"
        ) from error
    network, limit = _ready(network, tokenizer, device)
    return LoadedPolicy(network, tokenizer, limit, directory)


def length_within(asked: int | None, own: int) -> int:
    """The longest sequence to read, in tokens: as long as asked for, and no longer than the model takes."""
    if asked is not None and asked > own:
        log.warning("max_length=%d is more than the model takes: %d tokens are read.", asked, own)
    return min(asked or own, own)


def _ready(network: Any, tokenizer: PreTrainedTokenizerBase, device: str) -> tuple[Any, int]:
    """The network in evaluation mode on its device, with room for every token; its longest sequence."""
    if len(tokenizer) > network.get_input_embeddings().weight.shape[0]:
        network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    own = learned_positions(network) or getattr(network.config, "max_position_embeddings", None) or NO_LIMIT
    try:
        network = network.to(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device={device} cannot take the model ({first_line(error)}): use auto, cpu, cuda or cuda:1 as "
            "this machine has them."
        ) from error
    return network.eval(), int(min(tokenizer.model_max_length, own))


def tokenizer_of(directory: str, template: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model or an adapter, with a pad token and its chat template.

    Args:
        directory: of the model.
        template: chat template; ``auto`` takes the one that comes with it.
    """
    has_tokenizer = any((Path(directory) / file).is_file() for file in TOKENIZER_FILES)
    tokenizer = load_tokenizer(directory if has_tokenizer else base_of(directory))
    ensure_pad_token(tokenizer)
    set_template(tokenizer, template)
    return tokenizer


def base_of(directory: str) -> str:
    """The directory of the model that an adapter (of `peft`) belongs to; a whole model's own."""
    file = Path(directory) / "adapter_config.json"
    if not file.is_file() or (Path(directory) / "config.json").is_file():
        return directory
    with reading(file, "make the adapter anew, or leave it out"):
        told = read_json(file)
        name = str(told.get("base_model_name_or_path") or "")
    if told.get("task_type") != "SEQ_CLS" or not name:
        raise UserError(
            f"{directory} holds an adapter that is no reward model's: its task_type is "
            f"{told.get('task_type')} and its base model {name or 'not named'}; a reward model's is SEQ_CLS."
        )
    revision = f"@{told['revision']}" if told.get("revision") else ""
    return str(local_copy(name + revision))


def _merged(network: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """The network with an adapter's updates merged in, and its head."""
    from peft import PeftModel

    return PeftModel.from_pretrained(network, adapter).merge_and_unload()
