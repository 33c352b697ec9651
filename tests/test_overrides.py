"""Values that become overrides again."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from rlhf_rm.overrides import override_of, typed_path

TEXTS = ["plain", "a b", "it's", "C:\\x\\", "\\'", "{x}", "1", "true", "null", "a=b", "/p/q-1", "", "é,ü"]


@pytest.mark.parametrize(
    "value", [1, 0.5, -1, True, False, None, ["a", 2, None], {"lr": 0.1, "name": "x y"}, *TEXTS]
)
def test_a_value_survives_as_an_override(value):
    parsed = OverridesParser.create().parse_override(override_of("some.key", value))
    assert parsed.key_or_group == "some.key" and parsed.value() == value
    assert type(parsed.value()) is type(value)


@pytest.mark.parametrize("path", ["/p/q-1", "../2026-11-26/x", "o =u,t", "it's", "~/x", "a$b", "ü"])
def test_a_path_survives_a_shell_and_hydra(path):
    (word,) = shlex.split(typed_path("run", path))
    assert OverridesParser.create().parse_override(word).value() == path
    assert typed_path("run", "../2026-11-26/x") == "run=../2026-11-26/x"
