import json
import subprocess
import sys

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rlhf_rm.data.template import set_template
from rlhf_rm.errors import UserError
from rlhf_rm.models.tokenizer import (
    EOS,
    PAD,
    ensure_pad_token,
    load_tokenizer,
    save_tokenizer,
    train_byte_bpe,
)

TEXTS = ["how are you today?", "I am fine, thank you very much.", "how are they?"] * 3
ANY_TEXT = ["", " ", "\n\n\t x  y ", "naïve 你好 🙂 \x00\x7f\u2028 é", "<|eos|> [SEP] </s>", "word " * 1000]


@pytest.fixture(scope="module")
def tokenizer():
    return train_byte_bpe(TEXTS, vocab_size=280)


def test_any_text_survives_and_special_tokens_are_apart(tokenizer):
    for text in ANY_TEXT:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id) == (0, 1, None)
    assert len(tokenizer) == 280
    assert len(tokenizer(" how are")["input_ids"]) < len(" how are")  # merges were learned


def test_training_is_the_same_in_another_process(tokenizer):
    code = (
        "import sys, json\nfrom rlhf_rm.models.tokenizer import train_byte_bpe\n"
        "print(train_byte_bpe(json.load(sys.stdin), vocab_size=280).backend_tokenizer.to_str())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(TEXTS), capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == tokenizer.backend_tokenizer.to_str()


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(UserError, match="vocab_size=257 must be at least 258"):
        train_byte_bpe(TEXTS, vocab_size=257)


def test_what_is_saved_loads_the_same_and_speaks_the_words_of_version_4(tokenizer, tmp_path):
    set_template(tokenizer, "hh")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|extra|>"]})
    save_tokenizer(tokenizer, tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.chat_template == tokenizer.chat_template
    assert (again.pad_token, again.eos_token, again.bos_token) == (PAD, EOS, None)
    for text in [*ANY_TEXT, "a<|extra|>b"]:
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["model_input_names"] == ["input_ids", "attention_mask"]
    assert config["clean_up_tokenization_spaces"] is False
    assert (
        config["chat_template"] == (tmp_path / "chat_template.jinja").read_text() == tokenizer.chat_template
    )
    assert config["additional_special_tokens"] == ["<|extra|>"]
    assert "extra_special_tokens" not in config
    save_tokenizer(again, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "tokenizer_config.json").read_text()) == config


def test_a_config_of_a_model_beside_it_changes_nothing(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_where_no_tokenizer_is_the_error_says_so(tmp_path):
    with pytest.raises(UserError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)
    with pytest.raises(UserError, match="is no directory"):
        load_tokenizer(tmp_path / "missing")
    with pytest.raises(UserError, match="is no directory"):
        load_tokenizer("./missing")
    (tmp_path / "tokenizer.json").write_text('{"cut')
    with pytest.raises(UserError, match="no tokenizer could be loaded"):
        load_tokenizer(tmp_path)


def test_a_slow_tokenizer_is_refused(monkeypatch, tokenizer, tmp_path):
    class Slow:
        is_fast = False

    save_tokenizer(tokenizer, tmp_path)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda path: Slow())
    with pytest.raises(UserError, match="no fast tokenizer"):
        load_tokenizer(tmp_path)


def words(*names, **special):
    core = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=names[0]))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def test_a_right_pad_token_is_kept():
    tokenizer = words("?", "</s>", "[pad]", "<pad>", eos_token="</s>", pad_token="[pad]")
    assert ensure_pad_token(tokenizer) is False
    assert tokenizer.pad_token == "[pad]"


@pytest.mark.parametrize("pad", [{}, {"pad_token": "</s>"}])
@pytest.mark.parametrize(
    ("vocabulary", "expected"),
    [
        (["<|reserved_special_token_3|>", "<|finetune_right_pad_id|>"], "<|finetune_right_pad_id|>"),
        (["<|reserved_special_token_3|>", "<|reserved_special_token_0|>"], "<|reserved_special_token_3|>"),
        (["<unused7>"], "<unused7>"),
        (["my <|reserved_special_token_0|>"], PAD),
    ],
)
def test_a_missing_pad_token_or_one_that_is_eos_is_replaced(pad, vocabulary, expected):
    tokenizer = words("?", "</s>", *vocabulary, eos_token="</s>", **pad)
    size = len(tokenizer)
    grew = ensure_pad_token(tokenizer)
    assert tokenizer.pad_token == expected
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert grew == (expected == PAD) == (len(tokenizer) > size)
    assert ensure_pad_token(tokenizer) is False


def test_a_reserved_token_that_serves_as_bos_is_not_taken():
    tokenizer = words("?", "</s>", "<pad>", eos_token="</s>", bos_token="<pad>")
    assert ensure_pad_token(tokenizer) is True
