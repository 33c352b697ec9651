"""Checkpoints that a killed run goes on from."""

import signal
import threading
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

PATTERN = "step_*.ckpt"


class StepCheckpoint(Checkpoint):
    """Saves the whole training state every so many steps, at the end, and on SIGTERM.

    A new checkpoint is whole before the oldest is deleted, so there is always one to go on from.

    Args:
        directory: where ``step_00000123.ckpt`` go.
        every_n_steps: steps between two.
        keep: how many of the newest stay.
    """

    def __init__(self, directory: str, every_n_steps: int, keep: int) -> None:
        self.directory, self.every_n_steps, self.keep = Path(directory), every_n_steps, max(1, keep)
        self._saved_step = -1
        self._asked_to_stop = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take SIGTERM over from Lightning, whose handler speaks to the other ranks at once and so hangs.

        Lightning puts back what was there before when it is done.
        """
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._ask_to_stop)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is time."""
        if trainer.global_step % self.every_n_steps == 0:
            self.save(trainer)
        self._stop_if_asked(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """A validation may take longer than there is time after a SIGTERM."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._stop_if_asked(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the end."""
        self.save(trainer)
        self._stop_if_asked(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Write a checkpoint of this step and delete those too many."""
        if getattr(trainer, "fast_dev_run", False) or trainer.global_step == self._saved_step:
            return
        self._saved_step = trainer.global_step
        path = self.directory / f"step_{trainer.global_step:08d}.ckpt"
        part = path.with_suffix(".part")
        trainer.save_checkpoint(part)
        if trainer.is_global_zero:
            part.replace(path)
            for old in checkpoints(self.directory)[: -self.keep]:
                old.unlink()
        trainer.strategy.barrier()

    def _ask_to_stop(self, *signal_and_frame: Any) -> None:
        self._asked_to_stop = True

    def _stop_if_asked(self, trainer: L.Trainer) -> None:
        """Save and stop if any rank got a SIGTERM; all ranks do so after the same step."""
        if trainer.strategy.reduce_boolean_decision(self._asked_to_stop, all=False):
            self._asked_to_stop = False
            self.save(trainer)
            raise SIGTERMException


def checkpoints(directory: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first."""
    return sorted(directory.glob(PATTERN))
