"""Hidden states of packed rows, from any `transformers` model, without forking its code.

Shape legend: R rows, T tokens of a row, D hidden size.
"""

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_rm.data.batch import Rows
from rlhf_rm.data.packing import LAYOUTS
from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.base import Attention, AttentionInputs, layer_types

# Encoders whose classification head is known to be a function of the first token's state alone.
PACKABLE_ENCODERS = ("bert", "roberta", "xlm-roberta")
# Decoders that take a ready mask for each kind of layer; others are given a single one.
MASK_PER_LAYER_TYPE = (
    "exaone4",
    "gemma2",
    "gemma3_text",
    "gpt_oss",
    "ministral",
    "olmo3",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "smollm3",
)
# Decoders that find a token's neighbours by its column, under masks of their own.
BY_COLUMN = ("gpt_neo", "openai-gpt")


class Backbone:
    """Runs a network's base model over packed rows.

    No module of its own: the parameters stay where the network has them.

    Args:
        network: a `transformers` model with a head.
        attention: how attention over packed rows is computed.
        is_decoder: whether tokens see only what comes before them.

    Raises:
        UserError: rewards of this network would depend on what else lies in a batch.
    """

    def __init__(self, network: PreTrainedModel, attention: Attention, *, is_decoder: bool) -> None:
        kept = getattr(network.config, "keep_window_size", None)
        if kept is not None and kept < network.config.max_position_embeddings:
            raise UserError(
                f"a {network.config.model_type} model with keep_window_size={kept} chooses what it "
                "attends to among all of a batch's columns, so rewards would depend on padding: use another "
                f"model, or one whose max_position_embeddings is at most {kept}."
            )
        self.network, self.attention, self.is_decoder = network, attention, is_decoder
        self._attached: tuple[Any, AttentionInputs] | None = None  # where to, and what runs there
        self._takes = frozenset(inspect.signature(network.base_model.forward).parameters)

    @property
    def layouts(self) -> tuple[str, ...]:
        """The packing layouts that this network can do, the fastest first."""
        if self._why_not_packed() is not None:
            return ("padded",)
        return ("shared", "packed", "padded") if self.is_decoder else ("packed", "padded")

    def choose_layout(self, wanted: str) -> str:
        """``wanted``, or the fastest possible for ``auto``.

        Raises:
            UserError: this network cannot do the wanted layout.
        """
        if wanted == "auto":
            return self.layouts[0]
        if wanted not in LAYOUTS:
            raise UserError(f"loader.layout={wanted} is unknown: use one of {', '.join(LAYOUTS)}, or auto.")
        if wanted not in self.layouts:
            why = self._why_not_packed() or "an encoder attends in both directions"
            raise UserError(
                f"loader.layout={wanted} is not possible with a {self.network.config.model_type} model "
                f"({why}): use one of {', '.join(self.layouts)}, or auto."
            )
        return wanted

    def inputs(self, rows: Rows) -> dict[str, Any]:
        """What the base model is called with.

        One response a row is given the plain way, which every architecture understands: a
        two-dimensional mask. Everything else gets a mask that knows of trees.
        """
        arguments: dict[str, Any] = {"input_ids": rows.input_ids_RT}
        attention = self._at(rows.input_ids_RT.device)
        if rows.one_per_row:
            arguments["attention_mask"] = (rows.tree_RT >= 0).long()
        else:
            arguments["attention_mask"] = self._masks(attention, rows)
            arguments |= attention.arguments(rows, causal=self.is_decoder)
        if "position_ids" in self._takes and self._is_told_positions:
            arguments["position_ids"] = self._positions(rows)
        if "use_cache" in self._takes and self.is_decoder:
            arguments["use_cache"] = False
        return arguments

    def hidden(self, rows: Rows) -> Tensor:
        """Final hidden states, (R, T, D)."""
        states: Tensor = self.network.base_model(**self.inputs(rows)).last_hidden_state
        return states

    @property
    def _is_told_positions(self) -> bool:
        """Whether it is known how this architecture counts positions.

        Encoders differ: many start after their padding index, as RoBERTa does. One response a row, padded on
        the right, is what they all count right themselves.
        """
        return self.is_decoder or self.network.config.model_type in PACKABLE_ENCODERS

    def _positions(self, rows: Rows) -> Tensor:
        """Position ids as this architecture counts them."""
        if self.network.config.model_type in ("roberta", "xlm-roberta"):
            # RoBERTa starts counting after its padding index, and gives padding that index.
            offset = self.network.config.pad_token_id
            return torch.where(rows.tree_RT >= 0, rows.position_ids_RT + offset + 1, offset)
        return rows.position_ids_RT

    def _at(self, device: torch.device) -> AttentionInputs:
        """What attends on this device, in the dtype of this moment."""
        base: Any = self.network.base_model
        computes = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if computes else base.dtype
        if self._attached is None or self._attached[0] != (device, dtype):
            self._attached = (device, dtype), self.attention.attach(self.network, device, dtype)
        return self._attached[1]

    def _masks(self, attention: AttentionInputs, rows: Rows) -> Any:
        """One mask, or one for each kind of layer where layers differ."""
        if not self.is_decoder:
            return attention.mask(rows, causal=False)
        config = self.network.config
        masks = {
            kind: attention.mask(
                rows, causal=True, window=config.sliding_window if kind == "sliding_attention" else None
            )
            for kind in layer_types(config)
        }
        return masks if config.model_type in MASK_PER_LAYER_TYPE else next(iter(masks.values()))

    def _why_not_packed(self) -> str | None:
        """Why this network cannot take packed rows, or None if it can."""
        config = self.network.config
        if not self.is_decoder:
            return None if self._is_told_positions else "how it pools a sequence within a row is not known"
        kinds = layer_types(config)
        strange = kinds - {"full_attention", "sliding_attention"}
        if strange:
            return f"its {', '.join(sorted(strange))} layers would mix neighbours in a row"
        if len(kinds) > 1 and config.model_type not in MASK_PER_LAYER_TYPE:
            return "its layers need masks of different kinds"
        if config.model_type in BY_COLUMN:
            return "its attention goes by columns of a row"
        if "position_ids" not in self._takes or getattr(config, "alibi", False):
            return "its positions cannot be set from outside"
        return None
