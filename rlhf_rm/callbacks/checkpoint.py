"""Checkpoints that a killed run goes on from."""

import logging
import pickle
import shutil
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from rlhf_rm.errors import UserError
from rlhf_rm.files import lies_within, read_json, sha256, sync, write_json
from rlhf_rm.strategies.sharded_checkpoint import is_sharded, read_rest, written_names

log = logging.getLogger(__name__)
PATTERN = "step_*.ckpt"
MANIFEST = "manifest.json"  # beside the checkpoints: what each of them must be to be whole
Entry = dict[str, Any]  # bytes and sha256 of a file; of a directory those of each file in it


class StepCheckpoint(Checkpoint):
    """Saves the whole training state every so many steps, at the end, and on SIGTERM.

    Of a step that is validated the checkpoint is written after that, so that what other callbacks keep of it
    (the best, how long there was none) is not forgotten. Where a SIGTERM breaks a validation off, the run
    that goes on begins with it.

    A new checkpoint is whole, and on the disk, before it takes its name and the oldest is deleted, so there
    is always one to go on from. ``manifest.json`` beside them holds the size and the SHA-256 of each. Where
    weights lie in shards, a checkpoint is a directory to which every rank writes.

    Args:
        directory: where ``step_00000123.ckpt`` go, on a disk that all ranks see.
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
        """Save where it is time, and stop if asked to; both wait for a validation that comes next."""
        if _is_validated_next(trainer):
            return
        if self._is_time(trainer):
            self.save(trainer)
        self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save where it is time, once other callbacks know of the validation."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self._is_time(trainer):
            self.save(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """A validation may take longer than there is time after a SIGTERM."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._stop_if_asked(trainer, before_saving=_validate_anew)

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
            if trainer.is_global_zero:
                remove(part)  # of a run that was killed while it wrote
            trainer.save_checkpoint(part)
            entry = self._entry(part, trainer)
            if trainer.is_global_zero:
                settle(part, path, entry)
        except BaseException as error:
            if trainer.is_global_zero:
                remove(part)  # a disk that is full gets its space back
            if isinstance(error, OSError) and error.errno is not None:
                # Lightning writes by way of a temporary file, whose name would tell nobody anything.
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise
        if trainer.is_global_zero:
            for old in checkpoints(self.directory)[: -self.keep]:
                remove(old)
        trainer.strategy.barrier()

    def _entry(self, part: Path, trainer: L.Trainer) -> Entry:
        """What the manifest says of a checkpoint; each rank reads its share of the files."""
        if not is_sharded(part):
            return described([part])[part.name] if trainer.is_global_zero else {}
        files = sorted(part.iterdir())
        everyone = [described(files[trainer.global_rank :: trainer.world_size])]
        if trainer.world_size > 1:
            own, everyone = everyone[0], [{}] * trainer.world_size
            torch.distributed.all_gather_object(everyone, own)
        return {name: one for some in everyone for name, one in sorted(some.items())}

    def _is_time(self, trainer: L.Trainer) -> bool:
        return trainer.global_step % self.every_n_steps == 0

    def _ask_to_stop(self, *signal_and_frame: Any) -> None:
        self._asked_to_stop = True

    def _stop_if_asked(
        self, trainer: L.Trainer, before_saving: Callable[[L.Trainer], None] = lambda trainer: None
    ) -> None:
        """Save and stop if any rank got a SIGTERM; all ranks do so after the same step."""
        if trainer.strategy.reduce_boolean_decision(self._asked_to_stop, all=False):
            self._asked_to_stop = False
            before_saving(trainer)
            self.save(trainer)
            raise SIGTERMException


def _is_validated_next(trainer: L.Trainer) -> bool:
    """Whether a validation follows on the training step that ends."""
    loop = trainer.fit_loop
    assert loop._data_fetcher is not None
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def _validate_anew(trainer: L.Trainer) -> None:
    """Let the run that goes on begin with the validation that is broken off, from its first batch.

    Lightning goes on with one whose last batch was started and not processed, after those completed.
    """
    progress: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.total.processed = progress.total.completed = progress.total.started - 1
    progress.current.reset()


def checkpoints(directory: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first."""
    return sorted(directory.glob(PATTERN))


def described(files: Sequence[Path]) -> dict[str, Any]:
    """Size and SHA-256 of files by their names, once they are on the disk."""
    for file in files:
        sync(file)
    return {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files}


def remove(path: Path) -> None:
    """Delete a checkpoint, or what there is of one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def settle(part: Path, path: Path, entry: Entry) -> None:
    """Let a written checkpoint take its place, once the manifest knows what it must be."""
    sync(part)
    known = written(path.parent)
    # Of a file that is written again the old content stays right until the new one is there.
    kept = {one.name for one in checkpoints(path.parent)} & known.keys()
    entries = {name: known[name] for name in sorted(kept)}
    write_json(path.parent / MANIFEST, entries | {path.name: [*known.get(path.name, [])[-1:], entry]})
    old = path.with_suffix(".old")
    if path.is_dir():
        path.replace(old)  # of a step that is done again: a directory does not take another's place
    part.replace(path)
    sync(path.parent)
    remove(old)


def written(directory: Path) -> dict[str, list[Entry]]:
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
    known = [one for one in known if ("sha256" in one) == path.is_file()]
    if not known:
        return "it was written by another strategy"
    if path.is_file():
        return _difference(path, known)
    for name in known[-1]:
        if not lies_within(path, name) or not (path / name).is_file():
            return f"its {name} is missing"
        why = _difference(path / name, [one[name] for one in known if name in one])
        if why is not None:
            return f"of its {name}: {why}"
    return None


def _difference(path: Path, known: Sequence[Entry]) -> str | None:
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
        if is_sharded(path):
            read_rest(path)
            written_names(path)
        else:
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is no checkpoint of this program, or holds code: it is not opened."
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged, or no checkpoint: resume with another one.") from error
