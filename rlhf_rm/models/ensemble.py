"""Ensembles of reward models that are trained together.

Shape legend: M members, N responses.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from rlhf_rm.data.batch import FeatureRows, Rows
from rlhf_rm.errors import UserError
from rlhf_rm.models.adapter import LoRA, NoAdapter
from rlhf_rm.models.attention.base import Attention
from rlhf_rm.models.backbone import Backbone
from rlhf_rm.models.full_ensemble import FullEnsemble
from rlhf_rm.models.head_ensemble import HeadEnsemble
from rlhf_rm.models.lora_ensemble import LoRAEnsemble
from rlhf_rm.models.reward import RewardModel
from rlhf_rm.models.spec import ModelSpec

KINDS = ("full", "lora", "head")


class Ensemble(Protocol):
    """Members that share a data module and an optimiser, and nothing that is trained."""

    @property
    def size(self) -> int:
        """Number of members, M."""
        ...

    @property
    def backbone(self) -> Backbone:
        """What says which layouts are possible."""
        ...

    def scores(self, rows: Rows) -> Tensor:
        """Reward of each response by each member, (N, M), float32."""
        ...

    def member(self, rows: Rows | FeatureRows, m: int, *, batch: Hashable, part: int) -> Tensor:
        """Reward of each response by one member, (N,), float32.

        Args:
            rows: the packed responses.
            m: which member.
            batch: names the batch that the rows are of: those of one name are the same.
            part: which of its micro-batches they are.
        """
        ...

    def gradients(self, m: int) -> list[Tensor]:
        """The gradients of one member's weights, to be changed in place."""
        ...


def ensemble_model(
    spec: ModelSpec,
    tokenizer: PreTrainedTokenizerBase,
    attention: Attention,
    start: str | Path | None = None,
    *,
    kind: str,
    size: int,
    seed: int,
) -> FullEnsemble | LoRAEnsemble | HeadEnsemble:
    """The members of an ensemble, each with a head initialisation of its own, also over a reward model.

    Args:
        spec, tokenizer, attention, start: see :meth:`ModelSpec.reward_model`.
        kind: ``full`` (models of their own), ``lora`` (adapters and heads over one frozen backbone) or
            ``head`` (heads over one frozen backbone).
        size: number of members, at least 2.
        seed: of their initialisation.

    Raises:
        UserError: an unknown kind, fewer than two members, or an adapter that does not suit the kind.
    """
    if kind not in KINDS:
        raise UserError(f"members.kind={kind} is unknown: use one of {', '.join(KINDS)}.")
    if size < 2:
        raise UserError(f"members.size={size}: a vote takes at least 2 members.")
    if kind == "head":
        if not isinstance(spec.adapter, NoAdapter):
            raise UserError("members.kind=head trains heads alone: leave the adapter out, adapter=none.")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = spec.classifier(tokenizer, attention, start, labels=size)
        return HeadEnsemble(network, attention)
    if kind == "lora" and not isinstance(spec.adapter, LoRA):
        raise UserError("members.kind=lora trains adapters: say which, adapter=lora or adapter=qlora.")
    if kind == "lora" and spec.compile:
        raise UserError("members.kind=lora runs layers apart from each other: leave model.compile=false.")
    members = (_member(spec, tokenizer, attention, start, seed=seed * 1000 + m) for m in range(size))
    return LoRAEnsemble(members) if kind == "lora" else FullEnsemble(list(members))


def _member(
    spec: ModelSpec,
    tokenizer: PreTrainedTokenizerBase,
    attention: Attention,
    start: Path | str | None,
    *,
    seed: int,
) -> RewardModel:
    """A reward model whose initialisation is its own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = spec.reward_model(tokenizer, attention, start)
        _own_head(model)
        return model


def _own_head(model: RewardModel) -> None:
    """A new head where the network came with one, as a reward model's does: all members would share it."""
    network = model.network
    if not any("ForSequenceClassification" in name for name in network.config.architectures or ()):
        return
    config = network.config
    std: float = getattr(config, "initializer_range", getattr(config, "init_std", 0.02))
    head = network.score if model.backbone.is_decoder else network.classifier
    for layer in (layer for layer in head.modules() if isinstance(layer, nn.Linear)):
        nn.init.normal_(layer.weight, std=std)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
