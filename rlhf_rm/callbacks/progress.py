"""A progress bar with the numbers that matter; lines where there is no terminal, few of them in notebooks."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rlhf_rm.callbacks.throughput import Throughput

SHOWN = {
    "train/loss": "loss",
    "train/accuracy": "accuracy",
    "val/accuracy": "accuracy",
    "val/loss": "loss",
}
REWRITTEN = 0.5  # seconds between two states of a line in a notebook


class CellText:
    """Text below a notebook's cell: lines that stay, and a last one that is rewritten in its place."""

    def __init__(self) -> None:
        self._kept: list[str] = []
        self._shown: Any = None

    def show(self, line: str, *, keep: bool) -> None:
        """Put a line where the last one was that is not to be kept."""
        from IPython.display import display

        text = {"text/plain": "\n".join([*self._kept, line])}
        if self._shown is None:
            self._shown = display(text, raw=True, display_id=True)
        else:
            self._shown.update(text, raw=True)
        if keep:
            self._kept.append(line)


class TrainingProgress(ProgressBar):
    """Loss, accuracy, speed and time left.

    On a terminal a bar that moves, in a notebook a line that is rewritten; elsewhere (a log file, a cluster)
    a line every ``line_seconds``.

    Args:
        label: what is being trained.
        line_seconds: seconds between two lines where there is no terminal.
    """

    def __init__(self, label: str, line_seconds: float) -> None:
        super().__init__()
        self.label = label
        self._cell = CellText() if Console().is_jupyter else None
        # Text of other parts goes below a cell as plain lines.
        self.console = Console(force_jupyter=False, force_terminal=False) if self._cell else Console()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._between_lines = line_seconds if self._cell is None else REWRITTEN
        self._last_line = 0.0
        self._on = True

    @property
    def is_enabled(self) -> bool:
        """Whether it prints; Lightning asks before it passes on what a module prints."""
        return self._on

    def disable(self) -> None:
        """Lightning calls this on all ranks but the first."""
        self._on = False

    def enable(self) -> None:
        """Undo :meth:`disable`."""
        self._on = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print a line above the bar."""
        if self._on:
            self.console.print(*args, markup=False, highlight=False, soft_wrap=True, **kwargs)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar."""
        self._last_line = time.monotonic()
        if self._cell is not None:
            self._cell = CellText()  # of this training, which may be another cell's
        if self._on and self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[numbers]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                self.label, total=self._total(trainer), completed=trainer.global_step, numbers=""
            )

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on."""
        done = trainer.global_step
        if self._bar is not None and self._task is not None:
            if done % 5 == 0 or done == self._total(trainer):
                self._bar.update(self._task, completed=done, numbers=self._numbers(trainer))
        elif self._on and time.monotonic() - self._last_line >= self._between_lines:
            self._last_line = time.monotonic()
            line = f"{self.label}: step {done}/{self._total(trainer):.0f}, {self._numbers(trainer)}"
            self._say(line, keep=False)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """One line for each validation."""
        shown = self._values(trainer, "val/")
        if trainer.state.fn == "fit" and shown:
            self._say(f"{self.label}: step {trainer.global_step}, validation: {shown}")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the finished bar, or one last line."""
        self._stop()
        if not self.console.is_terminal:
            self._say(f"{self.label}: done, {trainer.global_step} steps, {self._numbers(trainer)}")

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self._stop()

    def _say(self, line: str, *, keep: bool = True) -> None:
        if self._cell is None:
            self.print(line)
        elif self._on:
            self._cell.show(line, keep=keep)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _total(self, trainer: L.Trainer) -> float:
        return float(trainer.estimated_stepping_batches)

    def _numbers(self, trainer: L.Trainer) -> str:
        parts = [self._values(trainer, "train/")]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if (
                isinstance(callback, Throughput)
                and callback.examples_per_second
                and callback.tokens_per_second
            ):
                unit = getattr(trainer.datamodule, "unit", "examples")  # type: ignore[attr-defined]
                parts.append(f"{callback.examples_per_second:.1f} {unit}/s")
                parts.append(f"{callback.tokens_per_second:,.0f} tokens/s")
        return ", ".join(part for part in parts if part)

    def _values(self, trainer: L.Trainer, prefix: str) -> str:
        metrics = trainer.callback_metrics
        return ", ".join(
            f"{label} {float(metrics[name]):.3f}"
            for name, label in SHOWN.items()
            if name.startswith(prefix) and name in metrics
        )
