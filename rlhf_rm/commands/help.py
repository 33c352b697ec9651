"""What `--help` shows of a command: the groups that it reads, and its own settings as its YAML has them.

Hydra's own help would compose the configuration first, and so want what has no default.
"""

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from rlhf_rm.cli import conf_directory
from rlhf_rm.commands.forward import REFUSED

NOT_ITS_OWN = ("defaults", "hydra")


def help_of(command: str) -> str:
    """The help of a command.

    Args:
        command: whose file in ``conf/`` says in ``hydra.help`` what stands at the beginning and the end.
    """
    told = yaml.safe_load(_text(command))["hydra"]["help"]
    return "\n\n".join(
        [
            told["header"],
            "Groups (choose with GROUP=OPTION, change what an option sets with GROUP.KEY=VALUE, or with what "
            "stands in brackets):",
            _groups(command),
            "Settings (KEY=VALUE):",
            _settings(command),
            told["footer"].rstrip(),
            "--cfg job shows the whole configuration, -m runs a sweep, traceback=true shows where something "
            "fails.",
        ]
    )


def _groups(command: str) -> str:
    """A line for each group that a command reads, with its options."""
    names = {name for file in _of(command) for name in _defaults(file)[1]}
    return "\n".join(_group(name) for name in sorted(names - _refused(command)))


def _group(name: str) -> str:
    options = _options(name)
    packages = {_package(f"{name}/{option}") for option in options}
    where = f" [{packages.pop()}.KEY]" if len(packages) == 1 and packages != {name} else ""
    return f"{name}{where.replace('_global_.', '')}: {', '.join(options)}"


def _package(file: str) -> str:
    """Where the settings of an option lie."""
    found = re.match(r"# @package (\S+)", _text(file))
    return found[1] if found else file.rpartition("/")[0]


def _refused(command: str) -> set[str]:
    return set(REFUSED) if command == "iterate" else set()


def _settings(command: str) -> str:
    """The settings of a command beside its groups, as YAML with their comments."""
    blocks = [block for file in _of(command) for block in re.split(r"\n(?=\w)", _text(file))]
    other = {*NOT_ITS_OWN, *_refused(command)}
    own = [block for block in blocks if re.match(r"\w+:", block) and block.split(":")[0] not in other]
    return "\n".join(block.rstrip() for block in own)


def _of(command: str) -> list[str]:
    """The file of a command and those that it includes."""
    return [command, *(inner for name in _defaults(command)[0] for inner in _of(name))]


def _defaults(file: str) -> tuple[list[str], list[str]]:
    """Which files a file includes, and which groups it has."""
    included, chosen = [], []
    for one in yaml.safe_load(_text(file)).get("defaults", []):
        if isinstance(one, str):
            included += [one] if one != "_self_" else []
        else:
            chosen += [name for name in one if not name.startswith("override ")]
    return included, chosen


def _options(group: str) -> list[str]:
    names = [file.name for file in (_conf() / group).iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def _text(file: str) -> str:
    return str((_conf() / f"{file}.yaml").read_text(encoding="utf-8"))


def _conf() -> Any:
    where = conf_directory()
    package = where.removeprefix("pkg://")
    return Path(where) if package == where else files(package)
