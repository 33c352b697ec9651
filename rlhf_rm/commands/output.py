"""Where a command is told to write, looked at before the work that it is for."""

import tempfile
from pathlib import Path

from omegaconf import DictConfig

from rlhf_rm.errors import UserError


def check_output(output: Path) -> None:
    """Make the directory of a file, and refuse one that could not be written.

    Raises:
        UserError: it is a directory, or its own cannot be made or written to.
    """
    if output.is_dir():
        raise UserError(f"output={output} is a directory: name a file.")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise UserError(
            f"output={output} cannot be written, since no file can be made in {output.parent} "
            f"({error.strerror}): name one elsewhere."
        ) from error


def results_directory(cfg: DictConfig) -> Path:
    """The directory that a command leaves its results in, which is no training's.

    Raises:
        UserError: it holds a training, whose figures and pairs worth reading would be replaced.
    """
    run_dir = Path(cfg.paths.run_dir)
    if any((run_dir / name).exists() for name in ("checkpoints", "metrics.json")):
        raise UserError(
            f"{run_dir} holds a training, of which files would be replaced: choose another directory with "
            "hydra.run.dir=DIR."
        )
    return run_dir
