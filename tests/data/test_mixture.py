from collections import Counter

import pytest

from rlhf_rm.data.mixture import MixtureSource
from rlhf_rm.data.types import Message, PreferencePair
from rlhf_rm.errors import UserError


class Given:
    splits = ("train", "validation", "test")
    name = "given"

    def __init__(self, source="", **prompts):
        self._source, self._prompts = source, prompts

    def pairs(self, split):
        return [
            PreferencePair((Message("user", prompt),), "a", side, source=self._source, group=prompt)
            for prompt in self._prompts.get(split, [])
            for side in ("b", "c")
        ]

    def fingerprint(self):
        return repr(self._prompts)

    def report(self):
        return {"source": self.name}


def prompts(pairs):
    return [pair.messages[0].content for pair in pairs]


def test_each_source_gives_as_many_pairs_as_its_weight_says_and_whole_prompts():
    many = [f"p{n}" for n in range(400)]
    source = MixtureSource({"one": Given(train=["x"]), "half": Given(train=many)}, {"one": 2, "half": 0.5})
    train = source.pairs("train")
    counts = Counter(prompts(train))
    assert counts.pop("x") == 4
    assert set(counts.values()) == {2}
    assert 160 < len(counts) < 240
    assert prompts(train) == prompts(MixtureSource(source.sources, source.weights).pairs("train"))
    assert len({pair.group for pair in train}) == 2 + len(counts)
    assert source.report()["train_pairs"] == {"one": 4, "half": 2 * len(counts)}


def test_no_training_prompt_is_held_out_by_another_source():
    source = MixtureSource(
        {"a": Given(train=["x", "y"], test=["t"]), "b": Given(train=["t", "z"], validation=["y"])}, {}
    )
    assert set(prompts(source.pairs("train"))) == {"x", "z"}
    assert source.report()["left_out_prompt_in_other_split"] == {"train": 4, "validation": 0, "test": 0}
    assert prompts(source.pairs("test")) == ["t", "t"]


def test_a_prompt_that_one_source_tests_is_left_out_of_validation_as_with_another_split_seed():
    source = MixtureSource(
        {
            "a": Given(train=["x"], validation=["v"], test=["t"]),
            "b": Given(validation=["t", "w"], test=["u"]),
        },
        {},
    )
    assert prompts(source.pairs("validation")) == ["v", "v", "w", "w"]
    assert prompts(source.pairs("b/validation")) == ["t", "t", "w", "w"]
    assert source.report()["left_out_prompt_in_other_split"]["validation"] == 2


@pytest.mark.parametrize("weight", [0.5, 1, 2])
def test_the_whole_has_every_pair_once_whatever_it_weighs(weight):
    source = MixtureSource({"a": Given(train=list("klmno"), validation=["v"], test=["t"])}, {"a": weight})
    assert prompts(source.pairs("all")) == [one for one in "klmnovt" for _ in "bc"]


def test_pairs_tell_where_they_are_from_and_a_source_can_be_taken_alone():
    source = MixtureSource({"a": Given(test=["x"]), "b": Given(source="mine", test=["y"])}, {})
    assert [pair.source for pair in source.pairs("test")] == ["a", "a", "mine", "mine"]
    assert prompts(source.pairs("b/test")) == ["y", "y"]
    assert "b/test" in source.splits
    with pytest.raises(UserError, match="split=c/test is unknown: use one of train, "):
        source.pairs("c/test")


def test_weights_are_part_of_the_fingerprint():
    parts = {"a": Given(train=["x"])}
    assert len({MixtureSource(parts, weights).fingerprint() for weights in ({}, {"a": 1}, {"a": 2})}) == 2


@pytest.mark.parametrize(
    ("sources", "weights", "told"),
    [
        ({}, {}, "a mixture needs sources"),
        ({"a": Given()}, {"b": 1}, "names b, but the sources are a"),
        ({"a": Given()}, {"a": 0}, "a weight is a number above 0"),
    ],
)
def test_settings_are_checked(sources, weights, told):
    with pytest.raises(UserError, match=told):
        MixtureSource(sources, weights)
