"""What `evaluate` is told to measure."""

import pytest
from omegaconf import OmegaConf

from rlhf_rm.commands.evaluate import default_set, sets_of
from rlhf_rm.data.jsonl import JsonlSource
from rlhf_rm.data.rows import ALL
from rlhf_rm.errors import UserError


def test_sets_are_one_or_several_of_the_splits(tiny):
    source = tiny.Source()
    assert sets_of("test", source) == ["test"]
    assert sets_of(["test", "train"], source) == ["test", "train"]
    assert sets_of(None, source) == []
    with pytest.raises(UserError, match=r"evaluate.sets=\['tests'\] is not in"):
        sets_of("tests", source)


@pytest.mark.parametrize(("test_path", "measured"), [(None, ALL), ("test.jsonl", "test")])
def test_a_file_is_measured_whole_unless_it_has_another_for_the_test(test_path, measured):
    rest = {"split_seed": 0, "on_bad_row": "error", "limit": None, "columns": None}
    fractions = {"validation_fraction": 0.1, "test_fraction": 0.1}
    source = JsonlSource("train.jsonl", validation_path=None, test_path=test_path, **fractions, **rest)
    assert default_set(OmegaConf.create({"data": {"path": "train.jsonl"}}), source) == measured
    assert default_set(OmegaConf.create({"data": None}), source) == "test"
