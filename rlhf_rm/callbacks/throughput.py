"""Examples and tokens a second, of training alone."""

import time
from typing import Any

import lightning as L


class Throughput(L.Callback):
    """Measures training speed over all ranks, validations and checkpoints left out.

    Args:
        warmup_steps: steps at the start that are not counted: they allocate and compile.
    """

    def __init__(self, warmup_steps: int) -> None:
        self.warmup_steps = warmup_steps
        self.steps = 0
        self.examples = 0
        self.tokens = 0
        self.seconds = 0.0
        self._since: float | None = None

    @property
    def examples_per_second(self) -> float | None:
        """Pairs (or dialogues) a second, over all ranks; None before the first counted step."""
        return self.examples / self.seconds if self.seconds else None

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens a second that are no padding, a shared prefix counted once."""
        return self.tokens / self.seconds if self.seconds else None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock, unless it runs since the end of the last step."""
        if self._since is None:
            self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the step."""
        now = time.perf_counter()
        assert self._since is not None
        self.steps += 1
        if self.steps > self.warmup_steps:
            examples, tokens = work_of(pl_module, batch)
            self.examples += trainer.world_size * examples
            self.tokens += trainer.world_size * tokens
            self.seconds += now - self._since
        self._since = now
        if self.seconds:
            pl_module.log("train/examples_per_second", float(self.examples_per_second or 0))
            pl_module.log("train/tokens_per_second", float(self.tokens_per_second or 0))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock until the next step."""
        self._since = None

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stop the clock until the next step."""
        self._since = None


def work_of(module: L.LightningModule, batch: Any) -> tuple[int, int]:
    """Examples and tokens of a step: those that the module says it took, else those of the batch."""
    taken: tuple[int, int] | None = getattr(module, "work", None)
    if taken is not None:
        return taken
    return sum(part.examples for part in batch), sum(part.rows.tokens for part in batch)
