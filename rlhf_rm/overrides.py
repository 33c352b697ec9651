"""Values as overrides of Hydra, as one would type them."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

TYPED = "overrides.yaml"  # in the directory of a training: what it was told
ASKED = f".hydra/{TYPED}"  # Hydra's, of the last command given there, also of one that was refused
# Text that Hydra reads as itself; any other is quoted, `true` and `null` too.
SIMPLE = re.compile(
    r"(?!(?:true|false|null|nan|inf|yes|no|on|off)$)[A-Za-z_/][A-Za-z0-9_/.@-]*", re.IGNORECASE
)

PLAIN_PATH = re.compile(r"[\w./@+-]+", re.ASCII)  # neither Hydra nor a shell reads more into it


def typed(file: Path) -> dict[str, str]:
    """The values of an ``overrides.yaml`` by key, as typed; what was taken out (``~KEY``) has none.

    What ``${…}`` stands for is of the machine, and may be a secret.

    Raises:
        ValueError, AttributeError, TypeError, yaml.YAMLError: a damaged file.
    """
    given = yaml.safe_load(file.read_text(encoding="utf-8"))
    pairs = [one.split("=", 1) for one in given if "=" in one or not one.startswith("~")]
    return {key.lstrip("+~"): value for key, value in pairs}


def as_read(value: str) -> str:
    """What Hydra reads in a value as typed, as text: 5e-4 and 0.0005 are one number, 1 and 1.0 too.

    What Hydra cannot read stays as it is: names of groups are no values, and need not be ones.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser  # classes are used without Hydra
    from hydra.errors import HydraException

    try:
        read = OverridesParser.create().parse_override(f"key={value}").value()
    except HydraException:
        return value
    return str(float(read) if isinstance(read, int | float) and not isinstance(read, bool) else read)


def more(overrides: Mapping[str, Any]) -> list[str]:
    """A mapping from keys to values as overrides."""
    return [override_of(key, value) for key, value in overrides.items()]


def override_of(key: str, value: Any) -> str:
    """An override that gives this value to the key, whatever characters it has."""
    return f"{key}={quoted(value)}"


def typed_path(key: str, path: Path | str) -> str:
    """An override that gives this path to the key, as one types it in a shell."""
    if PLAIN_PATH.fullmatch(str(path)):
        return f"{key}={path}"
    return shlex.quote(override_of(key, str(path)))


def quoted(value: Any) -> str:
    """A value of plain containers, as it stands behind the ``=``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(quoted, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{quoted(one)}" for key, one in value.items()) + "}"
    if isinstance(value, str) and not SIMPLE.fullmatch(value):
        # Backslashes count only before a quote, the closing one included.
        escaped = re.sub(r"(\\+)$", r"\1\1", re.sub(r"(\\*)'", r"\1\1\\'", value))
        return f"'{escaped}'"
    return str(value)
