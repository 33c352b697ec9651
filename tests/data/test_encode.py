import numpy as np
import pytest
from transformers import BertTokenizer

from rlhf_rm.data.encode import DialogueEncoder, encode_pairs
from rlhf_rm.data.hh import HHSource
from rlhf_rm.data.template import set_template
from rlhf_rm.data.types import Message, PreferencePair
from rlhf_rm.errors import UserError
from rlhf_rm.models.tokenizer import train_byte_bpe

PROMPT = (Message("user", "one two three four five six seven eight"),)


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = train_byte_bpe([], vocab_size=258)  # a token a byte, so that lengths are plain to see
    set_template(tokenizer, "hh")
    return tokenizer


@pytest.fixture(scope="module")
def with_bos():
    tokenizer = train_byte_bpe([], vocab_size=258)
    tokenizer.add_special_tokens({"bos_token": "<|bos|>"})
    set_template(tokenizer, "plain")
    return tokenizer


@pytest.fixture(scope="module")
def bert():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(30))]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    set_template(tokenizer, "auto")
    return tokenizer


def encoder(tokenizer, max_length=10_000, too_long="truncate_prompt_left"):
    return DialogueEncoder(tokenizer, max_length=max_length, too_long=too_long)


def one(tokenizer, response, prompt=PROMPT, **options):
    return encoder(tokenizer, **options).encode([(prompt, response)])[0]


def w(*numbers):
    return " ".join(f"w{n}" for n in numbers)


@pytest.mark.parametrize(
    "response", ["yes", "", " ", "{{ 1 }}", "naïve 🙂", "a\n\nHuman: b", "so <|eos|> it is"]
)
def test_ids_are_what_the_exported_chat_template_gives_anyone(tokenizer, response):
    encoded = one(tokenizer, response)
    messages = [*(m._asdict() for m in PROMPT), {"role": "assistant", "content": response}]
    theirs = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
    assert encoded.ids.tolist() == theirs
    assert encoded.ids.dtype == np.int32
    assert (
        tokenizer.decode(encoded.ids[: encoded.prompt_tokens])
        == f"\n\nHuman: {PROMPT[0].content}\n\nAssistant:"
    )
    assert tokenizer.decode(encoded.ids[encoded.prompt_tokens :]) == f" {response}<|eos|>"
    assert not encoded.too_long


def test_a_token_over_the_border_of_prompt_and_response_is_the_responses():
    tokenizer = train_byte_bpe(["xyz"] * 100, vocab_size=300)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    set_template(tokenizer, "auto")
    encoded = one(tokenizer, "yz", (Message("user", "ab x"),))
    assert tokenizer.convert_ids_to_tokens(encoded.ids.tolist())[-2:] == ["xyz", "<|eos|>"]
    assert tokenizer.decode(encoded.ids[encoded.prompt_tokens :]) == "xyz<|eos|>"


def test_an_own_template_that_writes_an_answered_prompt_differently_still_finds_the_response():
    tokenizer = train_byte_bpe([], vocab_size=258)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.content }}]{% endfor %}{{ '[think' if add_generation_prompt else '' }}"
    )
    set_template(tokenizer, "auto")
    encoded = one(tokenizer, "yes", (Message("user", "q"),))
    assert tokenizer.decode(encoded.ids[encoded.prompt_tokens :]) == "yes]<|eos|>"


def test_a_long_prompt_loses_its_beginning_and_never_the_response(tokenizer, with_bos):
    whole = one(tokenizer, "yes")
    cut = one(tokenizer, "yes", max_length=20)
    assert cut.ids.tolist() == whole.ids[-20:].tolist()
    assert (cut.too_long, cut.length, cut.response_cut) == (True, len(whole.ids), False)
    assert tokenizer.decode(cut.ids[cut.prompt_tokens :]) == " yes<|eos|>"
    cut = one(with_bos, "yes", max_length=12)
    assert with_bos.decode(cut.ids) == "<|bos|>eight\n\nyes<|eos|>"
    assert with_bos.decode(cut.ids[cut.prompt_tokens :]) == "yes<|eos|>"
    assert len(cut.ids) == 12


def test_a_response_that_is_too_long_by_itself_loses_its_end_and_keeps_eos(tokenizer, with_bos):
    cut = one(tokenizer, "0123456789", max_length=8)
    assert tokenizer.decode(cut.ids) == " 012345<|eos|>"
    assert (cut.prompt_tokens, cut.response_cut) == (0, True)
    cut = one(with_bos, "0123456789", max_length=8)
    assert with_bos.decode(cut.ids) == "<|bos|>012345<|eos|>"
    assert (cut.prompt_tokens, len(cut.ids)) == (1, 8)
    # A spelled-out EOS within the response is not its end.
    cut = one(with_bos, "0<|eos|>123456789", max_length=8)
    assert with_bos.decode(cut.ids) == "<|bos|>0<|eos|>1234<|eos|>"


def test_what_follows_eos_in_an_own_template_is_kept_in_truncation():
    tokenizer = train_byte_bpe([], vocab_size=258)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content + eos_token + '\n' }}{% endfor %}"
    set_template(tokenizer, "auto")
    assert tokenizer.decode(one(tokenizer, "0123456789", max_length=8).ids) == "012345<|eos|>\n"


def test_encoders_keep_cls_and_sep(bert):
    prompt = (Message("user", w(1, 2, 3, 4, 5, 6, 7, 8)),)

    def tokens(response, max_length):
        cut = one(bert, response, prompt, max_length=max_length)
        return bert.convert_ids_to_tokens(cut.ids.tolist()), cut.prompt_tokens

    whole = ["[CLS]", *(f"w{n}" for n in range(1, 9)), "[SEP]", "w10", "w11", "[SEP]"]
    assert tokens(w(10, 11), 99) == (whole, 10)
    assert tokens(w(10, 11), 8) == (["[CLS]", "w6", "w7", "w8", "[SEP]", "w10", "w11", "[SEP]"], 5)
    assert tokens(w(*range(10, 20)), 8) == (["[CLS]", *(f"w{n}" for n in range(10, 16)), "[SEP]"], 1)
    assert tokens("", 99) == ([*whole[:10], "[SEP]"], 10)


def test_a_response_is_encoded_the_same_whatever_it_is_compared_with(tokenizer):
    long, short = "x" * 60, "y"
    pairs = [PreferencePair(PROMPT, long, short), PreferencePair(PROMPT, short, long + "z")]
    first, second = encode_pairs(encoder(tokenizer, 60), pairs, identical="drop").trees
    assert first.branches[1].tolist() == second.branches[0].tolist()
    assert len(first.branches[0]) == len(first.branches[1]) == 60


def test_what_is_too_long_is_dropped_or_refused_with_names_and_lengths(tokenizer):
    pairs = [PreferencePair(PROMPT, "yes", "no", id="a"), PreferencePair(PROMPT, "yes", "n" * 99, id="b")]
    dropped = encode_pairs(encoder(tokenizer, 80, "drop"), pairs, identical="drop")
    assert [pair.id for pair in dropped.pairs] == ["a"]
    assert dropped.report["pairs_dropped_too_long"] == dropped.report["pairs_too_long"] == 1
    with pytest.raises(UserError) as error:
        encode_pairs(encoder(tokenizer, 80, "error"), pairs, identical="drop")
    assert "1 of 4 dialogues are longer than max_length=80, the longest 161 tokens" in str(error.value)
    assert "rejected of b (161 tokens). Raise max_length" in str(error.value)
    assert len(encode_pairs(encoder(tokenizer, 161, "error"), pairs, identical="drop")) == 2


def test_pairs_that_truncation_makes_identical_are_dropped_or_kept_as_ties(tokenizer):
    pairs = [
        PreferencePair(PROMPT, "0123456789", "01234567", id="same"),
        PreferencePair(PROMPT, "a", "b", id="fine"),
    ]
    dropped = encode_pairs(encoder(tokenizer, 8), pairs, identical="drop")
    assert [pair.id for pair in dropped.pairs] == ["fine"]
    assert (dropped.report["pairs_identical"], dropped.report["pairs_dropped_identical"]) == (1, 1)
    assert (dropped.report["pairs_too_long"], dropped.report["responses_cut"]) == (2, 2)
    kept = encode_pairs(encoder(tokenizer, 8), pairs, identical="keep")
    assert (len(kept), kept.report["pairs_identical"], kept.report["pairs_dropped_identical"]) == (2, 1, 0)
    assert kept.trees[0].shared == 7  # each branch keeps a token of its own


def test_the_report_counts_tokens_with_and_without_sharing(tokenizer):
    report = encode_pairs(
        encoder(tokenizer), [PreferencePair(PROMPT, "abcd", "abx")], identical="drop"
    ).report
    prompt = len("\n\nHuman: \n\nAssistant: ") + len(PROMPT[0].content)
    assert report["tokens"] == 2 * prompt + 4 + 3 + 2
    assert report["tokens_shared_once"] == report["tokens"] - prompt - 2
    assert (report["mean_shared"], report["mean_own_chosen"], report["mean_own_rejected"]) == (
        prompt + 2,
        3,
        2,
    )
    assert report["longest_given"] == prompt + 5


def test_many_dialogues_keep_their_order(tokenizer, monkeypatch):
    monkeypatch.setattr("rlhf_rm.data.encode.CHUNK", 3)
    pairs = [PreferencePair((Message("user", f"q{n // 2}"),), f"a{n}", f"b{n}") for n in range(10)]
    trees = encode_pairs(encoder(tokenizer), pairs, identical="drop").trees
    for pair, tree in zip(pairs, trees, strict=True):
        alone = [
            one(tokenizer, response, pair.messages).ids.tolist() for response in (pair.chosen, pair.rejected)
        ]
        assert [branch.tolist() for branch in tree.branches] == alone


def test_sharing_on_real_dialogues_leaves_two_thirds_of_the_tokens(hh_file, settings):
    pairs = HHSource(hh_file, **settings | {"limit": 200}).pairs("all")
    tokenizer = train_byte_bpe([pair.chosen for pair in pairs], vocab_size=2000)
    set_template(tokenizer, "auto")
    encoded = encode_pairs(encoder(tokenizer, 2048), pairs, identical="drop")
    assert len(encoded) == 200
    assert 0.55 < encoded.report["tokens_shared_once"] / encoded.report["tokens"] < 0.70


def test_settings_are_checked(tokenizer):
    with pytest.raises(UserError, match="too_long=cut is unknown"):
        encoder(tokenizer, too_long="cut")
    with pytest.raises(UserError, match="max_length=7 must be at least 8"):
        encoder(tokenizer, max_length=7)
    with pytest.raises(ValueError, match="identical='maybe'"):
        encode_pairs(encoder(tokenizer), [], identical="maybe")
    with pytest.raises(ValueError, match="call set_template first"):
        encoder(train_byte_bpe([], vocab_size=258))
    assert encode_pairs(encoder(tokenizer), [], identical="drop").report["pairs"] == 0
