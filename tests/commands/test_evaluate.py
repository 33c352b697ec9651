"""What `evaluate` is told to measure."""

import pytest

from rlhf_rm.commands.evaluate import sets_of
from rlhf_rm.errors import UserError


def test_sets_are_one_or_several_of_the_splits(tiny):
    source = tiny.Source()
    assert sets_of("test", source) == ["test"]
    assert sets_of(["test", "train"], source) == ["test", "train"]
    assert sets_of(None, source) == []
    with pytest.raises(UserError, match=r"evaluate.sets=\['tests'\] is not in"):
        sets_of("tests", source)
