import logging
from types import SimpleNamespace

import numpy as np
import pytest

from rlhf_rm.data.types import Message, PreferencePair
from rlhf_rm.errors import UserError


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return tiny.make_tokenizer()


@pytest.fixture
def datamodule(tiny, tokenizer):
    def make(source=None, **changes):
        return tiny.make_datamodule(source or tiny.Source(), tokenizer, **changes)

    return make


def test_a_step_holds_exactly_its_pairs_with_their_tokens_and_columns(datamodule, tokenizer, tiny):
    data = datamodule(tiny.Source(margin=0.5), micro_tokens=100, row_tokens=60)
    split, pairs = data.split("train"), data.source.pairs("train")
    split.labels.weight[:] = np.arange(len(split))
    split.labels.target[:] = np.arange(len(split)) / 100
    wanted = [5, 0, 17, 9, 11]
    step = split.step(wanted)
    assert len(step) > 1
    assert sorted(int(i) for part in step for i in part.index_B) == sorted(wanted)
    for part in step:
        rows = part.rows
        for index, chosen, rejected, margin, target, weight in zip(
            part.index_B,
            part.chosen_B,
            part.rejected_B,
            part.margin_B,
            part.target_B,
            part.weight_B,
            strict=True,
        ):
            pair = pairs[int(index)]
            assert (margin, weight) == (0.5, index)
            assert float(target) == pytest.approx(index / 100)
            for number, text in ((chosen, pair.chosen), (rejected, pair.rejected)):
                assert rows.length_N[number] == len(tokenizer(f" {text}")["input_ids"]) + 1
                assert rows.input_ids_RT.flatten()[rows.last_N[number]] == tokenizer.eos_token_id
        assert part.examples == len(part.index_B)


def test_the_layout_decides_what_a_pair_counts_as(datamodule):
    shared, padded = datamodule().split("train"), datamodule(layout="padded").split("train")
    assert sum(shared.sizes) < sum(padded.sizes)
    assert sum(padded.sizes) == sum(len(b) for tree in padded.trees for b in tree.branches)


class Fixed:
    name = "fixed"
    splits = ("train", "validation", "test")

    def __init__(self, **pairs):
        self._pairs = pairs

    def pairs(self, split):
        return [
            PreferencePair((Message("user", "q"),), chosen, rejected, id=f"{split}{n}")
            for n, (chosen, rejected) in enumerate(self._pairs.get(split, []))
        ]

    def fingerprint(self):
        return repr(self._pairs)


def test_an_empty_split_says_how_to_mend_it(datamodule):
    with pytest.raises(UserError, match=r"the test split of fixed has no pairs: .* data.test_path"):
        datamodule(Fixed()).split("test")
    with pytest.raises(UserError, match=r"train split .* smaller data.validation_fraction and data.test_fr"):
        datamodule(Fixed()).split("train")


@pytest.mark.parametrize("share", [1.0, 0])
def test_a_fit_asks_at_once_for_the_pairs_of_the_test_that_follows(datamodule, share):
    both = [("x", "y")]
    data = datamodule(Fixed(train=both, validation=both))
    data.trainer = SimpleNamespace(limit_test_batches=share)
    if share:
        with pytest.raises(UserError, match="the test split of fixed has no pairs"):
            data.setup("fit")
    else:
        data.setup("fit")


def test_a_split_of_which_nothing_is_left_says_why(datamodule):
    with pytest.raises(
        UserError, match=r"none of the 1 pairs of the train split is left.*raise model.max_length"
    ):
        datamodule(Fixed(train=[("y" * 90, "n" * 90)]), max_length=30, too_long="drop").split("train")


def test_identical_pairs_are_dropped_from_training_kept_in_evaluation_and_told(datamodule, caplog):
    same = [("a" * 90 + "x", "a" * 90 + "y"), ("yes", "no")]
    data = datamodule(Fixed(train=same, test=same), max_length=30, too_long="truncate_prompt_left")
    with caplog.at_level(logging.INFO):
        assert data.split("train").column("id") == ["train1"]
        assert data.split("test").column("id") == ["test0", "test1"]
    assert "train: 1 pairs are identical after truncation and were dropped" in caplog.text
    assert "test: 1 pairs are identical after truncation and were kept as ties" in caplog.text
    assert "train: 1 of 2 pairs exceed model.max_length=30" in caplog.text


def test_an_error_can_name_a_pair(datamodule, tiny):
    data = datamodule()
    pair = tiny.Source().pairs("train")[3]
    assert data.pair_name("train", 3) == f"train-3 ({pair.pair_id[:16]}…)"


def test_another_token_that_ends_a_response_is_another_entry_of_the_cache(datamodule, tiny, tmp_path):
    lasts = []
    for end in ("<|eos|>", "<|eot|>"):
        tokenizer = tiny.make_tokenizer()
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|eot|>"]})
        tokenizer.eos_token = end
        data = tiny.make_datamodule(tiny.Source(), tokenizer, cache_dir=tmp_path)
        lasts.append((tokenizer.eos_token_id, int(data.split("train").trees[0].branches[0][-1])))
    assert lasts[0] != lasts[1] and all(end == last for end, last in lasts)


def test_every_stage_encodes_what_it_needs_and_the_report_counts_it(datamodule):
    data = datamodule()
    data.setup("fit")
    assert set(data.report()["encoded"]) == {"train", "validation"}
    data.setup("test")
    assert data.report()["encoded"]["test"]["pairs"] == 7
    assert [len(dialogue) for dialogue in data.probes(2)] == [2] * 4
