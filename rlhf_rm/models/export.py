"""Exports: directories that plain `transformers` opens, from 4.51 on, and that score as the run did."""

import copy
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rlhf_rm.data.encode import Dialogue, DialogueEncoder
from rlhf_rm.data.packing import Packing, Tree
from rlhf_rm.data.template import render
from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError
from rlhf_rm.files import whole_directory, write_text
from rlhf_rm.models.adapter import merged_state
from rlhf_rm.models.card import Facts, model_card
from rlhf_rm.models.language import LanguageModel
from rlhf_rm.models.reward import RewardModel
from rlhf_rm.models.tokenizer import save_tokenizer

TOLERANCE = 1e-4
# Of the largest score, or of 1: merging adapters into weights of 16 bits rounds these.
ROUNDING = 2**-5
# Kinds of rotary positions whose frequencies do not hang on the number of positions.
ROPE_OF_ANY_LENGTH = {"default", "linear", "llama3"}
log = logging.getLogger(__name__)


def export(
    model: RewardModel | LanguageModel,
    tokenizer: Any,
    directory: Path,
    *,
    max_length: int,
    probes: Sequence[Dialogue],
    add: Callable[[Path], None] = lambda directory: None,
    facts: Facts = (),
    sets: Mapping[str, Mapping[str, Any]] | None = None,
) -> float:
    """Save a model with its tokenizer, open it again with plain `transformers`, and compare.

    Args:
        model: what was trained.
        tokenizer: with the chat template that it was trained with, and a pad token that is not EOS.
        directory: the export; it appears only if the comparison holds.
        max_length: longest sequence that the model was trained on, in tokens.
        probes: prompts and responses to score with both.
        add: writes more files into the directory before it takes its place.
        facts, sets: of the training and the test, for the :func:`model_card`.

    Returns:
        The largest difference between the two scores.

    Raises:
        UserError: a difference above 1e-4; where adapters are merged into weights of 16 bits, which rounds
            them, above 1/32 of the largest score.
    """
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length = max_length
    is_reward = isinstance(model, RewardModel)
    with whole_directory(directory) as made:
        _plain(model.network).save_pretrained(made, state_dict=merged_state(model.network))
        save_tokenizer(tokenizer, made)
        _complete(made / "config.json", max_length)
        difference, allowed = _largest_difference(model, tokenizer, made, max_length, probes)
        if not difference <= allowed:
            raise UserError(
                f"the export scores differently from the model by {difference:.2g} (allowed: {allowed:.2g}); "
                f"nothing was written to {directory}. This is a bug, or a kind of model "
                f"({model.network.config.model_type}) that saves itself wrongly."
            )
        card = model_card(
            model.network.config.model_type,
            is_reward=is_reward,
            max_length=max_length,
            facts=facts,
            sets=sets or {},
        )
        write_text(made / "README.md", card)
        add(made)
    return difference


def _plain(network: Any) -> Any:
    """The network itself, or where it is quantised, one without weights that is not."""
    if getattr(network, "hf_quantizer", None) is None:
        return network
    config = copy.deepcopy(network.config)
    del config.quantization_config
    with torch.device("meta"):
        made = type(network)(config)
    if network.can_generate():
        # What ends a response often stands in generation_config.json alone.
        made.generation_config.eos_token_id = network.generation_config.eos_token_id
    return made


def _largest_difference(
    model: RewardModel | LanguageModel,
    tokenizer: Any,
    directory: Path,
    max_length: int,
    probes: Sequence[Dialogue],
) -> tuple[float, float]:
    """How differently the saved directory scores, read as a third party would, and what is allowed."""
    encoder = DialogueEncoder(tokenizer, max_length=max_length, too_long="truncate_prompt_left")
    # A third party would not truncate as we do.
    kept = [p for p, one in zip(probes, encoder.encode(probes), strict=True) if not one.too_long]
    if not kept:
        return 0.0, TOLERANCE
    was_training = model.training
    model.eval()
    auto = AutoModelForSequenceClassification if isinstance(model, RewardModel) else AutoModelForCausalLM
    network: Any = model.network
    again: Any = auto.from_pretrained(
        directory, dtype=network.base_model.dtype, attn_implementation=network.config._attn_implementation
    )
    again.to(network.device)
    with torch.inference_mode():
        if isinstance(model, RewardModel):
            ours = _our_rewards(model, encoder, kept)
            theirs = plain_rewards(again.eval(), AutoTokenizer.from_pretrained(directory), kept)
        else:
            ids = torch.from_numpy(encoder.encode(kept[:1])[0].ids).long()[None].to(network.device)
            ours, theirs = network(input_ids=ids).logits, again.eval()(input_ids=ids).logits
    model.train(was_training)
    rounds = network.base_model.dtype != torch.float32 and any(
        ".lora_" in name for name in network.state_dict()
    )
    allowed = ROUNDING * max(1.0, float(theirs.abs().max())) if rounds else TOLERANCE
    return float((ours.float().cpu() - theirs.float().cpu()).abs().max()), allowed


def _our_rewards(model: RewardModel, encoder: DialogueEncoder, dialogues: Sequence[Dialogue]) -> Tensor:
    packing = Packing(model.backbone.layouts[0], 1, 1, encoder.tokenizer.pad_token_id, row_multiple=1)
    trees = [Tree((one.ids,), 0, (one.prompt_tokens,)) for one in encoder.encode(dialogues)]
    device = next(model.parameters()).device
    rewards = torch.empty(len(trees))
    for rows, order in packing.pack(trees):
        rewards[order] = model(rows.to(device)).cpu()
    return rewards


def plain_rewards(network: Any, tokenizer: Any, dialogues: Sequence[Dialogue]) -> Tensor:
    """Rewards as anybody would compute them, with nothing of this project, (N,): the mean over labels.

    In float32 as one padded batch, which fails if the pad token is wrong; in lower precision, where
    padding changes rounding, one by one.
    """
    texts = render(
        tokenizer, [[*messages, Message("assistant", response)] for messages, response in dialogues]
    )
    size = len(texts) if network.dtype == torch.float32 else 1
    rewards = []
    for start in range(0, len(texts), size):
        batch = tokenizer(texts[start : start + size], return_tensors="pt", padding=True)
        inputs = {key: value.to(network.device) for key, value in batch.items() if key != "token_type_ids"}
        rewards.append(network(**inputs).logits.float().mean(1).cpu())
    return torch.cat(rewards)


def _complete(path: Path, max_length: int) -> None:
    """Add to a version 5 config.json how long sequences may be, and the names that version 4 looks for."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update(_positions(config, max_length))
    config.update(_names_of_4(config))
    write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")


def _positions(config: Mapping[str, Any], max_length: int) -> dict[str, Any]:
    """As many positions as the model was trained with, if its configuration says fewer.

    Of rotary positions the number is only a promise, unless their frequencies are made from it.
    """
    rope = config.get("rope_parameters")
    own = config.get("max_position_embeddings")
    if not rope or not own or own >= max_length:
        return {}
    kinds = {one.get("rope_type", "default") for one in (rope, *rope.values()) if isinstance(one, Mapping)}
    if not kinds <= ROPE_OF_ANY_LENGTH:
        log.warning(
            "the model was trained on sequences of up to %d tokens, but its configuration says %d, which its "
            "positions (%s) are made from: longer ones will be cut.",
            max_length,
            own,
            ", ".join(sorted(kinds - ROPE_OF_ANY_LENGTH)),
        )
        return {}
    return {"max_position_embeddings": max_length}


def _names_of_4(config: Mapping[str, Any]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    if "dtype" in config:
        names["torch_dtype"] = config["dtype"]
    rope = config.get("rope_parameters")
    if not rope:
        return names
    if "full_attention" in rope:
        # Gemma 3: a base of its own for each kind of layer.
        names["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    names["rope_theta"] = rope["rope_theta"]
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    names["rope_scaling"] = scaling if scaling.get("rope_type", "default") != "default" else None
    return names
