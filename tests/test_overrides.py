"""Values that become overrides again."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from rlhf_rm.overrides import override_of

TEXTS = ["plain", "a b", "it's", "C:\\x\\", "\\'", "{x}", "1", "true", "null", "a=b", "/p/q-1", "", "é,ü"]


@pytest.mark.parametrize(
    "value", [1, 0.5, -1, True, False, None, ["a", 2, None], {"lr": 0.1, "name": "x y"}, *TEXTS]
)
def test_a_value_survives_as_an_override(value):
    parsed = OverridesParser.create().parse_override(override_of("some.key", value))
    assert parsed.key_or_group == "some.key" and parsed.value() == value
    assert type(parsed.value()) is type(value)
