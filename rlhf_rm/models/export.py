"""Exports: directories that plain `transformers` opens, from 4.51 on, and that score as the run did."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rlhf_rm import __version__
from rlhf_rm.data.encode import Dialogue, DialogueEncoder
from rlhf_rm.data.packing import Packing, Tree
from rlhf_rm.data.template import is_encoder, render
from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError
from rlhf_rm.files import whole_directory, write_text
from rlhf_rm.models.language import LanguageModel
from rlhf_rm.models.reward import RewardModel
from rlhf_rm.models.tokenizer import save_tokenizer

TOLERANCE = 1e-4


def export(
    model: RewardModel | LanguageModel,
    tokenizer: Any,
    directory: Path,
    *,
    max_length: int,
    probes: Sequence[Dialogue],
    add: Callable[[Path], None] = lambda directory: None,
) -> float:
    """Save a model with its tokenizer, open it again with plain `transformers`, and compare.

    Args:
        model: what was trained.
        tokenizer: with the chat template that it was trained with, and a pad token that is not EOS.
        directory: the export; it appears only if the comparison holds.
        max_length: longest sequence that the model was trained on, in tokens.
        probes: prompts and responses to score with both.
        add: writes more files into the directory before it takes its place.

    Returns:
        The largest difference between the two scores.

    Raises:
        UserError: a difference above 1e-4.
    """
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length = max_length
    is_reward = isinstance(model, RewardModel)
    with whole_directory(directory) as made:
        model.network.save_pretrained(made)
        save_tokenizer(tokenizer, made)
        _make_readable_by_4(made / "config.json")
        difference = _largest_difference(model, tokenizer, made, max_length, probes)
        if not difference <= TOLERANCE:
            raise UserError(
                f"the export scores differently from the model by {difference:.2g} (allowed: {TOLERANCE}); "
                f"nothing was written to {directory}. This is a bug, or a kind of model "
                f"({model.network.config.model_type}) that saves itself wrongly."
            )
        write_text(made / "README.md", _card(is_reward, model.network.config.model_type, max_length))
        add(made)
    return difference


def _largest_difference(
    model: RewardModel | LanguageModel,
    tokenizer: Any,
    directory: Path,
    max_length: int,
    probes: Sequence[Dialogue],
) -> float:
    """Scores as trained against those of the saved directory, read as a third party would."""
    encoder = DialogueEncoder(tokenizer, max_length=max_length, too_long="truncate_prompt_left")
    # A third party would not truncate as we do.
    kept = [p for p, one in zip(probes, encoder.encode(probes), strict=True) if not one.too_long]
    if not kept:
        return 0.0
    was_training = model.training
    model.eval()
    auto = AutoModelForSequenceClassification if isinstance(model, RewardModel) else AutoModelForCausalLM
    network: Any = model.network
    again: Any = auto.from_pretrained(
        directory, dtype=network.dtype, attn_implementation=network.config._attn_implementation
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
    return float((ours.float().cpu() - theirs.float().cpu()).abs().max())


def _our_rewards(model: RewardModel, encoder: DialogueEncoder, dialogues: Sequence[Dialogue]) -> Tensor:
    packing = Packing(model.backbone.layouts[0], 1, 1, encoder.tokenizer.pad_token_id)
    trees = [Tree((one.ids,), 0, (one.prompt_tokens,)) for one in encoder.encode(dialogues)]
    device = next(model.parameters()).device
    rewards = torch.empty(len(trees))
    for rows, order in packing.pack(trees):
        rewards[order] = model(rows.to(device)).cpu()
    return rewards


def plain_rewards(network: Any, tokenizer: Any, dialogues: Sequence[Dialogue]) -> Tensor:
    """Rewards as anybody would compute them, with nothing of this project: (N,).

    In float32 as one padded batch, which fails if the pad token is wrong; in lower precision, where
    padding changes rounding, one by one.
    """
    texts = render(
        tokenizer, [[*messages, Message("assistant", response)] for messages, response in dialogues]
    )
    size = len(texts) if network.dtype == torch.float32 else 1
    rewards = []
    for start in range(0, len(texts), size):
        batch = tokenizer(
            texts[start : start + size],
            return_tensors="pt",
            padding=True,
            add_special_tokens=is_encoder(tokenizer),
        )
        inputs = {key: value.to(network.device) for key, value in batch.items() if key != "token_type_ids"}
        rewards.append(network(**inputs).logits[:, 0].float().cpu())
    return torch.cat(rewards)


def _make_readable_by_4(path: Path) -> None:
    """Add to a version 5 config.json the names under which version 4 looks for the same things."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update(_names_of_4(config))
    write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")


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


def _card(is_reward: bool, kind: str, max_length: int) -> str:
    if not is_reward:
        return _LANGUAGE_CARD.format(kind=kind, version=__version__)
    return _REWARD_CARD.format(kind=kind, version=__version__, max_length=max_length)


_REWARD_CARD = """---
library_name: transformers
pipeline_tag: text-classification
tags: [reward-model, rlhf]
---
# A reward model ({kind})

Trained with rlhf_rm {version}. The reward is the one logit, without a sigmoid; only differences between
responses to the same prompt mean something. Sequences of up to {max_length} tokens were seen in training.

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(PATH)
model = AutoModelForSequenceClassification.from_pretrained(PATH)
messages = [{{"role": "user", "content": "…"}}, {{"role": "assistant", "content": "…"}}]
text = tokenizer.apply_chat_template(messages, tokenize=False)
# A decoder's template holds all special tokens; an encoder's tokenizer adds its own.
special = tokenizer.cls_token is not None
reward = model(**tokenizer(text, return_tensors="pt", add_special_tokens=special)).logits[0, 0]
```
"""

_LANGUAGE_CARD = """---
library_name: transformers
pipeline_tag: text-generation
---
# A language model ({kind})

Fine-tuned on demonstrations with rlhf_rm {version}; its tokenizer carries the chat template of the training.
"""
