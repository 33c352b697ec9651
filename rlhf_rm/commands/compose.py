"""The configuration of a command without its command line: for notebooks and scripts."""

from contextlib import AbstractContextManager

import hydra
from omegaconf import DictConfig

from rlhf_rm.cli import conf_directory, register_resolvers


def compose(command: str, *overrides: str, run_dir: str) -> DictConfig:
    """What the command line composes from the same words; :mod:`rlhf_rm.commands.build` makes objects of it.

    A ``_target_`` may name a class of the notebook itself: ``loss._target_=__main__.MyLoss``.

    Args:
        command: ``train``, ``evaluate``, … (:data:`rlhf_rm.cli.COMMANDS`).
        overrides: as on the command line, such as ``method=meta`` or ``optimizer.lr=1e-3``.
        run_dir: where files are left, ``paths.run_dir``.

    Raises:
        hydra.errors.HydraException: an override that the command line would refuse too.
    """
    register_resolvers()
    directory = conf_directory()
    opened: AbstractContextManager[None]
    if directory.startswith("pkg://"):
        opened = hydra.initialize_config_module(directory.removeprefix("pkg://"), version_base="1.3")
    else:
        opened = hydra.initialize_config_dir(directory, version_base="1.3")
    with opened:
        return hydra.compose(command, overrides=[*overrides, f"paths.run_dir={run_dir}"])
