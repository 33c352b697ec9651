"""The weights of the best validation, which are then tested and exported."""

import logging
from pathlib import Path
from typing import Any

import lightning as L
import torch

from rlhf_rm.errors import UserError
from rlhf_rm.strategies.sharded import Sharded

log = logging.getLogger(__name__)
FILE = "best.ckpt"
MODES = ("max", "min")


class BestCheckpoint(L.Callback):
    """Keeps the weights of the best validation and puts them back when training ends.

    The checkpoints to resume from stay what they are: those of the last steps. ``best.ckpt`` beside
    them holds weights alone.

    Args:
        directory: where ``best.ckpt`` goes.
        metric: a logged metric, such as ``val/accuracy``.
        mode: ``max`` or ``min``.

    Attributes:
        restored: whether the weights are no longer those of the last step.

    Raises:
        UserError: an unknown mode.
    """

    def __init__(self, directory: str, metric: str, mode: str) -> None:
        if mode not in MODES:
            raise UserError(f"mode={mode} is unknown: use one of {', '.join(MODES)}.")
        self.path, self.metric, self.mode = Path(directory) / FILE, metric, mode
        self.value: float | None = None
        self.step = 0
        self.restored = False

    def state_dict(self) -> dict[str, Any]:
        """The best so far, for a resumed run."""
        return {"value": self.value, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.value, self.step = state_dict["value"], state_dict["step"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the weights if none were better.

        Raises:
            UserError: there is no such metric.
        """
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        value = measured(trainer, self.metric)
        better = self.value is None or (value > self.value if self.mode == "max" else value < self.value)
        if not better:
            return
        self.value, self.step = value, trainer.global_step
        if getattr(trainer, "fast_dev_run", False):
            return
        part = self.path.with_suffix(".part")
        trainer.save_checkpoint(part, weights_only=True)
        if trainer.is_global_zero:
            part.replace(self.path)
        trainer.strategy.barrier()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the best weights back."""
        if self.step in (0, trainer.global_step) or not self.path.is_file():
            return
        weights = torch.load(self.path, map_location="cpu", mmap=True, weights_only=True)["state_dict"]
        trained: Any = pl_module
        if isinstance(trainer.strategy, Sharded):
            trainer.strategy.load_whole(trained, weights)
        else:
            trained.load_state_dict(weights)
        self.restored = True
        log.info(
            "best %s %.4f at step %d: its weights are tested and exported", self.metric, self.value, self.step
        )


def measured(trainer: L.Trainer, metric: str) -> float:
    """A logged metric.

    Raises:
        UserError: there is no such metric.
    """
    logged = trainer.callback_metrics
    if metric not in logged:
        known = sorted(name for name in logged if name.startswith("val/"))
        raise UserError(f"metric={metric} is not measured in a validation: use one of {', '.join(known)}.")
    return float(logged[metric])
