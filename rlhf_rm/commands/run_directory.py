"""What lies in the directory of a training: the checkpoint to go on from, and what the run was told."""

from pathlib import Path
from typing import Any

import lightning as L

from rlhf_rm.callbacks.checkpoint import checkpoints, damage, newest_whole
from rlhf_rm.errors import UserError
from rlhf_rm.files import write_text
from rlhf_rm.overrides import ASKED, TYPED
from rlhf_rm.ranks import is_first_rank
from rlhf_rm.strategies.sharded_checkpoint import is_sharded

CONFIG, METRICS = "config.yaml", "metrics.json"


def find_checkpoint(run_dir: Path, resume: object) -> Path | None:
    """The checkpoint to go on from.

    Raises:
        UserError: the run directory holds a run that nobody asked to resume, or there is no such file.
    """
    found = checkpoints(run_dir / "checkpoints")
    if resume is None:
        if found and is_first_rank():
            raise UserError(
                f"{run_dir} already holds a run: add resume=auto to go on with it, "
                "or choose another directory with hydra.run.dir=DIR."
            )
        return None
    if resume == "auto":
        return newest_whole(found, warn=is_first_rank()) if found else None
    path = Path(str(resume))
    if path.is_dir() and not is_sharded(path):
        inside = checkpoints(path / "checkpoints") or checkpoints(path)
        if inside:
            return newest_whole(inside, warn=is_first_rank())
    elif path.exists():
        why = damage(path)
        if why is not None:
            raise UserError(f"{path} is damaged: {why}; resume with an older one.")
        return path
    raise UserError(f"resume={resume} is neither auto nor a checkpoint nor a run directory that holds one.")


class RunSettings(L.Callback):
    """Leaves what a run was told beside its weights: ``config.yaml``, and ``overrides.yaml`` as typed.

    Of a run that goes on both stay as they are until its first step, so that a command that is refused
    changes nothing. With that step ``metrics.json`` goes, which tells of the weights before.

    Args:
        directory: of the run.
        config: the resolved configuration, as YAML.
        resumed: whether there is a checkpoint to go on from.
    """

    def __init__(self, directory: Path, config: str, *, resumed: bool) -> None:
        self.directory, self.config = directory, config
        asked = directory / ASKED
        self.overrides = asked.read_text(encoding="utf-8") if asked.is_file() else None
        self._stepped = False
        if not resumed and is_first_rank():
            self._write()

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """See the class."""
        if trainer.is_global_zero and not self._stepped:
            self._stepped = True
            (self.directory / METRICS).unlink(missing_ok=True)
            self._write()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A run that was at its end takes no step."""
        if trainer.is_global_zero and not self._stepped:
            self._write()

    def _write(self) -> None:
        write_text(self.directory / CONFIG, self.config)
        if self.overrides is not None:
            write_text(self.directory / TYPED, self.overrides)
