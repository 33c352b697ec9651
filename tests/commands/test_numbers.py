"""Settings that are numbers: none is forgotten, and what one may not be is a sentence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from rlhf_rm.commands.compose import compose
from rlhf_rm.commands.numbers import NUMBERS, Interval, check_numbers
from rlhf_rm.errors import UserError

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("adapter", "base", "callbacks", "contrastive", "loss", "meta", "ppo", "scheduler")


def numbers(told: Any, name: str) -> Iterator[str]:
    """Names of all numbers in a group."""
    if isinstance(told, dict):
        for key, value in told.items():
            yield from numbers(value, f"{name}.{key}")
    elif isinstance(told, int | float) and not isinstance(told, bool):
        yield name


@pytest.mark.parametrize("group", GROUPS)
def test_every_number_of_a_group_says_what_it_may_be(group: str) -> None:
    files = (CONF / group).glob("*.yaml")
    named = {name for file in files for name in numbers(yaml.safe_load(file.read_text()), group)}
    assert named - NUMBERS.keys() == set()


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    words = ("method=contrastive", "contrastive=swav_pairs", "loss=hinge", "adapter=lora")
    return compose("train", *words, run_dir=str(tmp_path_factory.mktemp("run")))


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ("loss.margin=abc", "loss.margin=abc must be a number of at least 0."),
        ("loss.margin=-5", "loss.margin=-5 must be a number of at least 0."),
        ("scheduler.warmup=abc", "scheduler.warmup=abc must be a number of at least 0 and below 1."),
        ("scheduler.floor=5", "scheduler.floor=5 must be a number from 0 to 1."),
        ("adapter.r=2.5", "adapter.r=2.5 must be a whole number of at least 1."),
        ("adapter.alpha=abc", "adapter.alpha=abc must be a number above 0."),
        ("contrastive.loss.prototypes=2.5", "prototypes=2.5 must be a whole number of at least 2."),
        ("contrastive.weight=nan", "contrastive.weight=nan must be a number of at least 0."),
        ("meta.held_out=1", "meta.held_out=1 must be a number above 0 and below 1."),
        ("callbacks.checkpoint.every_n_steps=0", "every_n_steps=0 must be a whole number of at least 1."),
        ("base.settings.warmup=1.0", "base.settings.warmup=1.0 must be a number of at least 0 and below 1."),
    ],
)
def test_what_is_no_such_number_is_a_sentence(composed: DictConfig, told: str, sentence: str) -> None:
    check_numbers(composed)
    with pytest.raises(UserError) as error:
        check_numbers(OmegaConf.merge(composed, OmegaConf.from_dotlist([told])))  # type: ignore[arg-type]
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        *((value, True) for value in (0.5, 1.0, 1, 500, None, "00:01:00:00")),
        *((value, False) for value in (0, 0.0, 1.5, -1, True, "often", [1])),
    ],
)
def test_an_interval_is_a_share_of_an_epoch_or_a_number_of_steps(value, allowed):
    assert Interval().allows(value) is allowed


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("trainer.val_check_interval", 0, "=0 must be a share of an epoch above 0.0 and at most 1.0, or a"),
        ("callbacks.checkpoint.every_n_steps", 0, "=0 must be a whole number of at least 1"),
        ("data.limit", 10.5, "=10.5 must be a whole number of at least 1, or null for every row"),
        ("data.limit", "abc", "=abc must be a whole number"),
    ],
)
def test_a_setting_out_of_its_range_is_named(key, value, sentence):
    cfg = OmegaConf.create({})
    OmegaConf.update(cfg, key, value)
    with pytest.raises(UserError, match=key + sentence):
        check_numbers(cfg)
    check_numbers(OmegaConf.create({"data": {"limit": None}, "callbacks": {"checkpoint": None}}))
