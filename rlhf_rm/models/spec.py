"""From a model's description in YAML to its tokenizer and networks."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rlhf_rm.data.template import render, set_template
from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError
from rlhf_rm.files import cached_directory
from rlhf_rm.models.adapter import Adapter
from rlhf_rm.models.attention.base import Attention
from rlhf_rm.models.checkpointing import checkpoint_activations
from rlhf_rm.models.hub import local_copy, why_not_loaded
from rlhf_rm.models.language import LanguageModel
from rlhf_rm.models.positions import learned_positions, steady_positions
from rlhf_rm.models.reward import MEMBER, RewardModel
from rlhf_rm.models.tokenizer import (
    MIN_VOCABULARY,
    ensure_pad_token,
    load_tokenizer,
    save_tokenizer,
    train_byte_bpe,
)

log = logging.getLogger(__name__)

CHUNK = 1024  # dialogues rendered at once, to train a tokenizer on


@dataclass(frozen=True)
class ModelSpec:
    """What a ``conf/model`` file says.

    Args:
        path: hub name or local directory of a pretrained model; None for a fresh one.
        architecture: fields of the fresh model's `transformers` configuration, ``model_type`` among
            them; None with a path.
        vocab_size: size of the byte-level BPE that a fresh model's training text is given; None with
            a path.
        template: chat template: ``auto`` (the tokenizer's own), ``hh`` or ``plain``.
        max_length: longest sequence in tokens, prompt and response together.
        dtype: of the weights: ``float32`` or ``bfloat16``. Small learning rates vanish in bfloat16
            weights; with ``trainer.precision=bf16-mixed`` float32 weights compute in bfloat16.
        gradient_checkpointing: recompute activations in the backward pass, to save memory.
        compile: fuse the backbone's operations with ``torch.compile``: faster steps on a GPU, after
            minutes of compiling.
        learning_rate: what such a model is usually trained at; the optimiser's default.
        trust_remote_code: run Python code that comes with a hub model.
        adapter: what of the network is trained.
    """

    path: str | None
    architecture: Mapping[str, Any] | None
    vocab_size: int | None
    template: str
    max_length: int
    dtype: str
    gradient_checkpointing: bool
    compile: bool
    learning_rate: float
    trust_remote_code: bool
    adapter: Adapter

    def __post_init__(self) -> None:
        if (self.path is None) == (self.architecture is None):
            raise UserError(
                "a model needs either model.path (pretrained) or model.architecture (fresh), "
                f"but got path={self.path} and architecture={self.architecture}."
            )
        if self.architecture is not None and self.vocab_size is None:
            raise UserError(
                "a fresh model needs model.vocab_size, the size of the tokenizer to train for it."
            )
        if self.dtype not in ("float32", "bfloat16"):
            raise UserError(f"model.dtype={self.dtype} is unknown: use float32 or bfloat16.")
        if self.max_length < 2:
            raise UserError(f"model.max_length={self.max_length} must be at least 2.")

    def tokenizer(self, trained: Path | None) -> PreTrainedTokenizerBase:
        """The model's tokenizer, with a pad token that is not EOS and the chat template set.

        Args:
            trained: where a fresh model's tokenizer lies; None for a pretrained model, which has one.
        """
        tokenizer = load_tokenizer(trained or local_copy(self.path or ""))
        ensure_pad_token(tokenizer)
        set_template(tokenizer, self.template)
        return tokenizer

    def reward_model(
        self, tokenizer: PreTrainedTokenizerBase, attention: Attention, start: str | Path | None = None
    ) -> RewardModel:
        """A classifier with one label; from ``start`` (an earlier run's model), ``path``, or fresh."""
        return RewardModel(self.classifier(tokenizer, attention, start, labels=1), attention)

    def classifier(
        self,
        tokenizer: PreTrainedTokenizerBase,
        attention: Attention,
        start: str | Path | None = None,
        *,
        labels: int,
    ) -> PreTrainedModel:
        """The network of a reward model, or with several labels of an ensemble of heads."""
        names = {i: f"{MEMBER}{i:02d}" for i in range(labels)} if labels > 1 else {0: "LABEL_0"}
        settings = {"num_labels": labels, "id2label": names}
        settings["label2id"] = {name: i for i, name in names.items()}
        return self._network(AutoModelForSequenceClassification, tokenizer, attention, start, **settings)

    def language_model(
        self, tokenizer: PreTrainedTokenizerBase, attention: Attention, start: str | Path | None = None
    ) -> LanguageModel:
        """A causal language model, as :meth:`reward_model`."""
        network = self._network(AutoModelForCausalLM, tokenizer, attention, start)
        return LanguageModel(network, attention)

    def _network(
        self,
        auto: Any,
        tokenizer: PreTrainedTokenizerBase,
        attention: Attention,
        start: str | Path | None,
        **settings: Any,
    ) -> PreTrainedModel:
        origin = start or (local_copy(self.path) if self.path else None)
        dtype = getattr(torch, self.dtype)
        options = {"dtype": dtype, "attn_implementation": attention.implementation}
        loading = self.adapter.loading(dtype)
        if origin is None and loading:
            raise UserError(
                "a quantised adapter needs a pretrained model, and this one starts from random weights: give "
                "model.path, or use adapter=lora."
            )
        try:
            if origin is None:
                config = self._fresh_config(tokenizer, settings)
                network = auto.from_config(config, **options)
            else:
                network, told = auto.from_pretrained(
                    origin,
                    trust_remote_code=self.trust_remote_code,
                    # Where several heads are asked for, the one of a reward model gives way.
                    ignore_mismatched_sizes=settings.get("num_labels", 1) > 1,
                    output_loading_info=True,
                    **settings,
                    **options,
                    **loading,
                )
                _refuse_other_sizes(told["mismatched_keys"])
        except (OSError, ValueError, KeyError) as error:
            what = origin or dict(self.architecture or {})
            raise UserError(f"no model could be made from {what}: {why_not_loaded(error)}") from error
        _fit_vocabulary(network, tokenizer)
        self._check_length(network)
        self.adapter.apply(network, train_head=auto is AutoModelForSequenceClassification)
        network.train()  # from_pretrained leaves it in evaluation mode, without dropout
        if self.gradient_checkpointing:
            checkpoint_activations(network)
        if self.compile:
            # Rows differ in width from step to step: one program for all of them.
            network.base_model.compile(dynamic=True)
        return network

    def _check_length(self, network: PreTrainedModel) -> None:
        """Refuse sequences that are longer than the model has positions for; warn where batches matter."""
        longest = learned_positions(network)
        if longest is not None and self.max_length > longest:
            raise UserError(
                f"model.max_length={self.max_length} is more than the {longest} tokens that this "
                f"{network.config.model_type} model has positions for: use at most {longest}, or "
                "another model."
            )
        steady = steady_positions(network)
        if steady is not None and self.max_length > steady:
            _warn(
                f"model.max_length={self.max_length}: beyond {steady} tokens this model counts positions in "
                "another way, in all of a batch, so rewards depend on what else lies there: let it be "
                f"at most {steady}."
            )

    def _fresh_config(self, tokenizer: PreTrainedTokenizerBase, settings: Mapping[str, Any]) -> Any:
        fields = dict(self.architecture or {})
        kind = fields.pop("model_type", None)
        if kind is None:
            raise UserError("model.architecture needs a model_type, such as llama, qwen3 or bert.")
        vocabulary = fields.pop("vocab_size", len(tokenizer))
        return AutoConfig.for_model(
            kind,
            **fields,
            **settings,
            vocab_size=vocabulary,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
        )


@cache
def _warn(text: str) -> None:
    """Warn once, however many networks are made."""
    log.warning(text)


def _refuse_other_sizes(mismatched: Iterable[Any]) -> None:
    """Refuse weights that do not fit the configuration, but for those of a head."""
    names = [str(one[0] if isinstance(one, tuple) else one) for one in mismatched]
    others = [name for name in names if not name.startswith(("score.", "classifier."))]
    if others:
        raise ValueError(
            f"{len(others)} weights have other sizes than its config.json says, such as {others[0]}"
        )


def cached_tokenizer(
    read: Callable[[], Sequence[Sequence[Message]]], vocab_size: int, template: str, directory: Path
) -> Path:
    """Train a byte-level BPE into ``directory`` unless it is there already, whole; only then read dialogues.

    It learns from the rendered dialogues: the template's own words need merges too.
    """

    def train(made: Path) -> None:
        untrained = train_byte_bpe([], vocab_size=MIN_VOCABULARY)
        set_template(untrained, template)
        dialogues = read()
        chunks = (dialogues[start : start + CHUNK] for start in range(0, len(dialogues), CHUNK))
        texts = (text for chunk in chunks for text in render(untrained, chunk))
        save_tokenizer(train_byte_bpe(texts, vocab_size=vocab_size), made)

    return cached_directory(directory, train)


def _fit_vocabulary(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make room for a pad token that was added; refuse a tokenizer that is not the model's."""
    embeddings: Any = network.get_input_embeddings()
    rows = embeddings.weight.shape[0]
    if len(tokenizer) > rows:
        added = len(tokenizer.get_added_vocab())
        if len(tokenizer) - added > rows or len(tokenizer) - rows > 1:
            raise UserError(
                f"the tokenizer has {len(tokenizer)} tokens but the model only {rows} embeddings: "
                "use the tokenizer that belongs to the model."
            )
        network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    network.config.pad_token_id = tokenizer.pad_token_id
    if getattr(network, "generation_config", None) is not None:
        network.generation_config.pad_token_id = tokenizer.pad_token_id
