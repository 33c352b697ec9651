"""How long a sequence a model has positions for."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel

# What tables of learned positions are called.
TABLES = ("embed_positions", "position_embeddings", "positions_embed", "wpe")


def learned_positions(network: PreTrainedModel) -> int | None:
    """The longest sequence, in tokens, that a table of learned positions has rows for; None without a table.

    Relatives of RoBERTa use none of the rows up to their padding index, OPT and BART none of the first two.
    """
    config = network.config
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        return None
    rows = [
        module.num_embeddings - _first_row(module)
        for name, module in network.base_model.named_modules()
        if name.rpartition(".")[2] in TABLES and isinstance(module, nn.Embedding)
    ]
    return min(*rows, getattr(config, "max_position_embeddings", rows[0])) if rows else None


def _first_row(table: Any) -> int:
    """The row of a sequence's first token."""
    return int(table.padding_idx + 1 if table.padding_idx is not None else getattr(table, "offset", 0))


def steady_positions(network: PreTrainedModel) -> int | None:
    """The longest sequence, in tokens, whose rotary positions are its own; None where all are.

    Beyond it ``rope_type`` dynamic and longrope count in all of a batch by what its longest sequence needs.
    """
    config = network.config
    told = getattr(config, "rope_parameters", None) or {}
    # Some models have a base of its own for each kind of layer.
    ropes = [one for one in (told, *told.values()) if isinstance(one, dict)]
    found = [one["original_max_position_embeddings"] for one in ropes if one.get("rope_type") == "longrope"]
    found += [config.max_position_embeddings for one in ropes if one.get("rope_type") == "dynamic"]
    return min(found, default=None)
