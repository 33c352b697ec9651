"""What was said on the way: texts of a policy or a language model, to be read."""

import json
from pathlib import Path
from typing import Any

import lightning as L

from rlhf_rm.files import write_text


class HistoryLog(L.Callback):
    """Writes a module's ``history`` as JSON lines whenever it has grown, and gives its texts to the loggers.

    Args:
        path: of the file; a module without a history leaves none.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._written = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After a step that began with responses."""
        self._write(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After a validation that ended with some."""
        self._write(trainer, pl_module)

    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        history: list[dict[str, Any]] = getattr(pl_module, "history", [])
        if len(history) <= self._written or not trainer.is_global_zero:
            return
        self._written = len(history)
        # Written anew, so that a resumed run leaves the same file as one that was never stopped.
        write_text(self.path, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in history))
        for logger in trainer.loggers:
            if hasattr(logger, "log_texts"):
                logger.log_texts("train/responses", history[-1]["texts"], history[-1]["step"])
