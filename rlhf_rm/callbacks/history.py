"""What was said on the way: texts of a policy or a language model, to be read."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L

from rlhf_rm.files import write_text
from rlhf_rm.plots import BLUE, GREEN, GREY, ORANGE, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What is drawn of each iteration, in panels that share an axis: name, label, colour.
PANELS = (
    (("reward", "reward model", BLUE), ("gold", "gold", ORANGE)),
    (("kl", "nats from the reference", GREEN),),
    (("length", "tokens of a response", GREY),),
    (("explained_variance", "explained variance of the critic", BLUE),),
)


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


def policy_curves(history: list[dict[str, Any]]) -> "Figure":
    """Reward, gold where it is known, divergence, length and the critic, by iteration.

    Args:
        history: of a policy's training.
    """
    figure = new_figure((9.2, 6.4))
    steps = [one["step"] for one in history]
    for axes, panel in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        known = [line for line in panel if line[0] in history[0]]
        style(axes, " and ".join(label for _, label, _ in known))
        for name, label, colour in known:
            axes.plot(steps, [one[name] for one in history], color=colour, linewidth=1.4, label=label)
        axes.set_xlabel("step")
        if len(known) > 1:
            axes.legend(frameon=False, fontsize=8)
    return figure
