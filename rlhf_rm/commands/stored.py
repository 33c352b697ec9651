"""The configuration in a run directory: it tells no secrets, and somebody else may have written it."""

import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from rlhf_rm.cli import conf_directory
from rlhf_rm.errors import UserError, first_line

SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD")  # how the names of variables end that hold some
SHORTEST = 8  # characters; less would be found in other words
TARGET = re.compile(r"^\s*_target_:\s*(\S+)", re.MULTILINE)


def storable(cfg: DictConfig) -> DictConfig:
    """A configuration with everything resolved but secrets: of those it keeps where they come from.

    A secret is what an environment variable holds whose name ends like those of ``SECRETS``.
    """
    secrets = {
        value: name
        for name, value in os.environ.items()
        if name.upper().endswith(SECRETS) and len(value) >= SHORTEST
    }
    hidden = _without(OmegaConf.to_container(cfg, resolve=True), secrets)
    return OmegaConf.create(hidden)


def _without(value: Any, secrets: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(one, secrets) for key, one in value.items()}
    if isinstance(value, list):
        return [_without(one, secrets) for one in value]
    if isinstance(value, str):
        for secret, name in secrets.items():
            value = value.replace(secret, f"${{oc.env:{name}}}")
    return value


def stored_config(run: str, part: str | None = None, *, trusted: bool) -> Any:
    """What a run was told, or a part of it, to make the same objects again.

    A configuration calls what it names. So of a run of unknown origin only what this project's own
    configuration names is called.

    Args:
        run: a run directory.
        part: a key, such as ``data``; None for everything.
        trusted: whether anything may be called.

    Raises:
        UserError: there is no configuration, or it names something else.
    """
    file = Path(run) / "config.yaml"
    if not file.is_file():
        raise UserError(
            f"{run} is no run directory: it has no config.yaml. Name what `rlhf-rm train` printed."
        )
    config = read_config(file)
    found = config if part is None else OmegaConf.select(config, part)
    if found is None:
        raise UserError(f"{file} says nothing of {part}.")
    if not trusted:
        _check(found, file)
    return found


def read_config(file: Path) -> DictConfig:
    """A run's config.yaml.

    Raises:
        UserError: it is damaged.
    """
    try:
        config = OmegaConf.load(file)
    except (yaml.YAMLError, OSError, ValueError) as error:
        raise UserError(
            f"{file} is damaged and cannot be read ({first_line(error)}): train the run anew, or "
            "leave it out."
        ) from error
    if not isinstance(config, DictConfig):
        raise UserError(f"{file} is no configuration of a run: train the run anew, or leave it out.")
    return config


def _check(config: Any, file: Path) -> None:
    strange = sorted(set(_targets(OmegaConf.to_container(config))) - own_targets())
    if strange:
        raise UserError(
            f"{file} would call {', '.join(strange)}, which is not of this project: add trust_run=true if "
            "you know who wrote it."
        )
    if isinstance(config, DictConfig) and OmegaConf.select(config, "model.trust_remote_code"):
        raise UserError(
            f"{file} would run Python code that comes with a hub model: add trust_run=true if you know who "
            "wrote both."
        )


def _targets(value: Any) -> Iterator[str]:
    """Every name after a ``_target_``, however deep."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key == "_target_":
                yield str(one)
            else:
                yield from _targets(one)
    elif isinstance(value, list):
        for one in value:
            yield from _targets(one)


@lru_cache(maxsize=1)
def own_targets() -> frozenset[str]:
    """What the configuration files of this project name."""
    where = conf_directory()
    root: Traversable = files(where.removeprefix("pkg://")) if where.startswith("pkg://") else Path(where)
    return frozenset(name for text in _texts(root) for name in TARGET.findall(text))


def _texts(directory: Traversable) -> Iterator[str]:
    for entry in directory.iterdir():
        if entry.is_dir():
            yield from _texts(entry)
        elif entry.name.endswith(".yaml"):
            yield entry.read_text(encoding="utf-8")
