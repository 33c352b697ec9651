"""Tokenizers: train one, load one, save one that older readers open too, and give it a pad token."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from rlhf_rm.errors import UserError, first_line

PAD, EOS = "<|pad|>", "<|eos|>"
MIN_VOCABULARY = 256 + 2
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.txt", "vocab.json")
PAD_NAMES = (
    "<|finetune_right_pad_id|>",
    "<|pad|>",
    "<pad>",
    "[PAD]",
    "<|PAD|>",
    "<|padding|>",
    "<|pad_token|>",
)
# Llama 3, Phi, Gemma, BERT's kin and Mistral leave such tokens free.
RESERVED = re.compile(
    r"<\|reserved_special_token_\d+\|>|<\|reserved_\d+\|>|<unused_?\d+>|\[unused\d+\]|<SPECIAL_\d+>|<\|dummy_\d+\|>"
)


def train_byte_bpe(texts: Iterable[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer: deterministic, and any text survives encoding and decoding.

    Its special tokens are ``<|pad|>`` (id 0) and ``<|eos|>`` (id 1); there is no BOS.

    Args:
        texts: what merges are learned from.
        vocab_size: tokens at most; fewer if the texts hold no more merges.

    Raises:
        UserError: no room for the 256 bytes and the two special tokens.
    """
    if vocab_size < MIN_VOCABULARY:
        raise UserError(f"vocab_size={vocab_size} must be at least {MIN_VOCABULARY}: 256 bytes, pad and EOS.")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, eos_token=EOS, clean_up_tokenization_spaces=False
    )


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a hub name or a local directory.

    Raises:
        UserError: there is none, it cannot be reached, or it has no fast form.
    """
    given = Path(path)
    if given.is_dir():
        if not any((given / name).is_file() for name in TOKENIZER_FILES):
            raise UserError(
                f"{path} holds no tokenizer ({', '.join(TOKENIZER_FILES)}): name a model directory."
            )
    elif given.is_absolute() or str(path).startswith((".", "~")) or str(path).count("/") > 1:
        raise UserError(f"{path} is no directory: give the directory of a model, or its name on the hub.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path))
    except Exception as error:
        reason = first_line(error)
        raise UserError(
            f"no tokenizer could be loaded from {path} ({type(error).__name__}: {reason}): "
            "give a model directory, or a name on the hub, which needs the network unless it is in the cache."
        ) from error
    if not tokenizer.is_fast:
        raise UserError(
            f"{path} has no fast tokenizer (tokenizer.json): convert it with transformers' "
            "convert_slow_tokenizer and save it beside the model."
        )
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, directory: str | Path) -> None:
    """Save a tokenizer with its chat template so that transformers 4.51 opens it as well as 5.

    Version 5 writes names that 4.x does not know, and leaves out defaults that differ there.
    """
    directory = Path(directory)
    tokenizer.save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(
        json.dumps(_readable_by_4(config, tokenizer), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _readable_by_4(config: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):  # 4.x expects a mapping under this name
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    for key in ("is_local", "local_files_only"):  # how this copy was loaded, not what it is
        config.pop(key, None)
    # 4.x would add token_type_ids, which decoders refuse, and clean up decoded text.
    config["model_input_names"] = tokenizer.model_input_names
    config["clean_up_tokenization_spaces"] = bool(tokenizer.clean_up_tokenization_spaces)
    if tokenizer("a")["input_ids"] == tokenizer("a", add_special_tokens=False)["input_ids"]:
        # 4.x makes the post-processor of some tokenizers anew, from these.
        config |= {"add_bos_token": False, "add_eos_token": False}
    if tokenizer.chat_template is not None:
        config["chat_template"] = (
            tokenizer.chat_template
        )  # beside chat_template.jinja, for readers before 4.50
    return config


def ensure_pad_token(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Make the pad token one that is not EOS.

    Else whoever pools the last token that is no padding would skip the EOS of a response. A right one is
    kept; else a token that the vocabulary reserves for such uses is taken; else ``<|pad|>`` is added.

    Returns:
        Whether the vocabulary grew, so that the model needs one embedding more.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return False
    vocabulary = tokenizer.get_vocab()
    used = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token}
    for name in [*(name for name in PAD_NAMES if name in vocabulary), *_reserved(vocabulary)]:
        if name not in used:
            tokenizer.pad_token = name
            return False
    tokenizer.add_special_tokens({"pad_token": PAD})
    return True


def _reserved(vocabulary: dict[str, int]) -> list[str]:
    """Tokens that a vocabulary keeps free, by id."""
    return sorted(
        (name for name in vocabulary if RESERVED.fullmatch(name)), key=lambda name: vocabulary[name]
    )
