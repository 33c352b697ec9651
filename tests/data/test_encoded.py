import numpy as np
import pytest

from rlhf_rm.data.encode import DialogueEncoder
from rlhf_rm.data.encoded import EncodedPairs, encode_pairs
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


@pytest.fixture
def encode(tmp_path):
    def encode(encoder, pairs, identical):
        number = len(list(tmp_path.iterdir()))
        directory = tmp_path / str(number)
        directory.mkdir()
        return encode_pairs(encoder, pairs, identical=identical, directory=directory)

    return encode


def encoder(tokenizer, max_length=10_000, too_long="truncate_prompt_left"):
    return DialogueEncoder(tokenizer, max_length=max_length, too_long=too_long)


def test_a_response_is_encoded_the_same_whatever_it_is_compared_with(encode, tokenizer):
    long, short = "x" * 60, "y"
    pairs = [PreferencePair(PROMPT, long, short), PreferencePair(PROMPT, short, long + "z")]
    first, second = encode(encoder(tokenizer, 60), pairs, "drop").trees
    assert first.branches[1].tolist() == second.branches[0].tolist()
    assert len(first.branches[0]) == len(first.branches[1]) == 60


def test_what_is_too_long_is_dropped_or_refused_with_names_and_lengths(encode, tokenizer):
    pairs = [PreferencePair(PROMPT, "yes", "no", id="a"), PreferencePair(PROMPT, "yes", "n" * 99, id="b")]
    dropped = encode(encoder(tokenizer, 80, "drop"), pairs, "drop")
    assert dropped.strings("id") == ["a"]
    assert dropped.report["pairs_dropped_too_long"] == dropped.report["pairs_too_long"] == 1
    with pytest.raises(UserError) as error:
        encode(encoder(tokenizer, 80, "error"), pairs, "drop")
    assert "1 of 4 dialogues are longer than max_length=80, the longest 161 tokens" in str(error.value)
    assert "rejected of b (161 tokens). Raise max_length" in str(error.value)
    assert len(encode(encoder(tokenizer, 161, "error"), pairs, "drop")) == 2


def test_pairs_that_truncation_makes_identical_are_dropped_or_kept_as_ties(encode, tokenizer):
    pairs = [
        PreferencePair(PROMPT, "0123456789", "01234567", id="same"),
        PreferencePair(PROMPT, "a", "b", id="fine"),
    ]
    dropped = encode(encoder(tokenizer, 8), pairs, "drop")
    assert dropped.strings("id") == ["fine"]
    assert (dropped.report["pairs_identical"], dropped.report["pairs_dropped_identical"]) == (1, 1)
    assert (dropped.report["pairs_too_long"], dropped.report["responses_cut"]) == (2, 2)
    kept = encode(encoder(tokenizer, 8), pairs, "keep")
    assert (len(kept), kept.report["pairs_identical"], kept.report["pairs_dropped_identical"]) == (2, 1, 0)
    assert kept.trees.branches().tolist() == [1, 2]  # equal responses are one
    assert (kept.report["tokens"], kept.report["tokens_shared_once"]) == (8 + 16, 8 + 10)


def test_equal_responses_of_a_group_are_one_branch(encode, tokenizer):
    texts = ["0123456789", "01234567", "x"]
    pairs = [
        PreferencePair(PROMPT, texts[a], texts[b], id=f"{a}{b}", group="g")
        for a, b in [(0, 1), (0, 2), (1, 2)]
    ]
    for identical, names in (("keep", ["01", "02", "12"]), ("drop", ["02", "12"])):
        found = encode(encoder(tokenizer, 8), pairs, identical)
        assert found.strings("id") == names
        assert found.trees.branches().tolist() == [2]
        assert found.numbers("chosen").tolist() == [0] * len(names)
        assert found.numbers("rejected").tolist() == [int(name != "01") for name in names]


def test_the_report_counts_tokens_with_and_without_sharing(encode, tokenizer):
    report = encode(encoder(tokenizer), [PreferencePair(PROMPT, "abcd", "abx")], "drop").report
    prompt = len("\n\nHuman: \n\nAssistant: ") + len(PROMPT[0].content)
    assert report["tokens"] == 2 * prompt + 4 + 3 + 2
    assert report["tokens_shared_once"] == report["tokens"] - prompt - 2
    assert (report["mean_shared"], report["mean_own_chosen"], report["mean_own_rejected"]) == (
        prompt + 2,
        3,
        2,
    )
    assert report["longest_given"] == prompt + 5


def test_many_dialogues_keep_their_order(encode, tokenizer, monkeypatch):
    monkeypatch.setattr("rlhf_rm.data.encoded.CHUNK", 3)
    pairs = [PreferencePair((Message("user", f"q{n // 2}"),), f"a{n}", f"b{n}") for n in range(10)]
    trees = encode(encoder(tokenizer), pairs, "drop").trees
    for pair, tree in zip(pairs, trees, strict=True):
        alone = [
            encoder(tokenizer).encode([(pair.messages, response)])[0].ids.tolist()
            for response in (pair.chosen, pair.rejected)
        ]
        assert [branch.tolist() for branch in tree.branches] == alone


def test_sharing_on_real_dialogues_leaves_two_thirds_of_the_tokens(encode, hh_file, settings):
    pairs = HHSource(hh_file, **settings | {"limit": 200}).pairs("all")
    tokenizer = train_byte_bpe([pair.chosen for pair in pairs], vocab_size=2000)
    set_template(tokenizer, "auto")
    encoded = encode(encoder(tokenizer, 2048), pairs, "drop")
    assert len(encoded) == 200
    assert 0.55 < encoded.report["tokens_shared_once"] / encoded.report["tokens"] < 0.70


def test_a_group_is_one_tree_with_each_response_once(encode, tokenizer):
    def pair(chosen, rejected, group="g", **more):
        return PreferencePair(PROMPT, chosen, rejected, group=group, **more)

    pairs = [
        pair("alone", "other", group=""),
        pair("aa", "bb", margin=0.5),
        pair("cc", "aa", notes={"gold": 2.0}),
        pair("bb", "dd", source="there"),
        pair("x", "y", group="h"),
    ]
    found = encode(encoder(tokenizer), pairs, "drop")
    assert [len(tree.branches) for tree in found.trees] == [2, 4, 2]
    texts = [tokenizer.decode(branch[found.trees[1].shared :]) for branch in found.trees[1].branches]
    assert texts == ["aa<|eos|>", "bb<|eos|>", "cc<|eos|>", "dd<|eos|>"]
    assert found.numbers("tree").tolist() == [0, 1, 1, 1, 2]
    assert found.numbers("chosen").tolist() == [0, 0, 2, 1, 0]
    assert found.numbers("rejected").tolist() == [1, 1, 0, 3, 1]
    assert found.strings("pair_id") == [one.pair_id for one in pairs]
    assert found.strings("source") == ["", "", "", "there", ""]
    assert np.isnan(found.numbers("margin")).tolist() == [True, False, True, True, True]
    assert found.table["notes.gold"].to_pylist() == [None, None, 2.0, None, None]
    assert (found.report["pairs"], found.report["prompts"]) == (5, 3)


def test_a_response_of_several_pairs_is_cut_once(encode, tokenizer):
    pairs = [PreferencePair(PROMPT, "0" * 99, other, group="g") for other in ("a", "b", "c")]
    assert encode(encoder(tokenizer, 60), pairs, "drop").report["responses_cut"] == 1


def test_a_response_whose_pairs_are_all_dropped_is_not_stored(encode, tokenizer):
    group = [
        PreferencePair(PROMPT, "a", "b" * 400, group="g"),
        PreferencePair(PROMPT, "c", "a", group="g"),
    ]
    found = encode(encoder(tokenizer, 300, "drop"), group, "drop")
    assert (len(found), len(found.trees), len(found.trees[0].branches)) == (1, 1, 2)
    assert (found.numbers("chosen")[0], found.numbers("rejected")[0]) == (1, 0)


def test_what_is_opened_again_is_what_was_encoded(encode, tokenizer, tmp_path):
    pairs = [PreferencePair((Message("user", f"q{n}"),), "y" * (n + 1), "n", id=f"{n}") for n in range(6)]
    made = encode(encoder(tokenizer), pairs, "drop")
    again = EncodedPairs.open(tmp_path / "0")
    assert again.table.equals(made.table)
    assert again.report == made.report
    assert again.probes[:2] == [(pairs[0].messages, "y"), (pairs[0].messages, "n")]
    for layout in ("shared", "packed"):
        assert again.trees.sizes(layout).tolist() == [tree.size(layout) for tree in again.trees]
    assert again.trees[-1].branches[0].tolist() == made.trees[5].branches[0].tolist()
    assert isinstance(again.trees.tokens_T, np.memmap)
    with pytest.raises(IndexError):
        again.trees[6]


def test_no_pairs_are_fine_and_an_unknown_policy_is_not(encode, tokenizer):
    assert encode(encoder(tokenizer), [], "drop").report["pairs"] == 0
    with pytest.raises(ValueError, match="identical='maybe'"):
        encode(encoder(tokenizer), [], "maybe")
