"""Checkpoints that a killed run goes on from."""

import logging
import pickle
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from rlhf_rm.errors import UserError
from rlhf_rm.files import read_json, sha256, sync, write_json

log = logging.getLogger(__name__)
PATTERN = "step_*.ckpt"
MANIFEST = "manifest.json"  # beside the checkpoints: what each of them must be to be whole


class StepCheckpoint(Checkpoint):
    """Saves the whole training state every so many steps, at the end, and on SIGTERM.

    A new checkpoint is whole, and on the disk, before it takes its name and the oldest is deleted, so there
    is always one to go on from. ``manifest.json`` beside them holds the size and the SHA-256 of each.

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
        try:
            trainer.save_checkpoint(part)
            if trainer.is_global_zero:
                settle(part, path)
        except BaseException as error:
            part.unlink(missing_ok=True)  # a disk that is full gets its space back
            if isinstance(error, OSError) and error.errno is not None:
                # Lightning writes by way of a temporary file, whose name would tell nobody anything.
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise
        if trainer.is_global_zero:
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


def settle(part: Path, path: Path) -> None:
    """Let a written file take its place, once it is on the disk and the manifest knows what it must be."""
    sync(part)
    known = written(path.parent)
    # Of a file that is written again the old content stays right until the new one is there.
    entry = {"bytes": part.stat().st_size, "sha256": sha256(part)}
    kept = {one.name for one in checkpoints(path.parent)} & known.keys()
    entries = {name: known[name] for name in sorted(kept)}
    write_json(path.parent / MANIFEST, entries | {path.name: [*known.get(path.name, [])[-1:], entry]})
    part.replace(path)
    sync(path.parent)


def written(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """What a directory's manifest says of each checkpoint; nothing if there is none.

    Raises:
        UserError: it is damaged.
    """
    manifest = directory / MANIFEST
    if not manifest.is_file():
        return {}
    try:
        return dict(read_json(manifest))
    except ValueError as error:
        raise UserError(f"{manifest} is damaged: delete it to go on from a checkpoint unchecked.") from error


def damage(path: Path) -> str | None:
    """How a checkpoint differs from what was written, in words; None if it does not, or nobody knows."""
    known = written(path.parent).get(path.name)
    if known is None:
        return None
    size = path.stat().st_size
    if size not in [one["bytes"] for one in known]:
        return f"it has {size:,} bytes, and {known[-1]['bytes']:,} were written"
    if sha256(path) not in [one["sha256"] for one in known]:
        return "its content is not what was written"
    return None


def newest_whole(found: Sequence[Path], *, warn: bool) -> Path:
    """The newest of a run's checkpoints that is what was written.

    Raises:
        UserError: none is.
    """
    for path in reversed(found):
        why = damage(path)
        if why is None:
            return path
        if warn:
            log.warning("%s is damaged (%s): going on from an older one.", path, why)
    raise UserError(
        f"all {len(found)} checkpoints in {found[0].parent} are damaged: take another run directory to begin "
        "anew, or delete them."
    )


def check_readable(path: Path) -> None:
    """Refuse a file that is no checkpoint; of one that is only tensors and plain values are read.

    Raises:
        UserError: it is damaged, or holds code.
    """
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is no checkpoint of this program, or holds code: it is not opened."
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged, or no checkpoint: resume with another one.") from error
