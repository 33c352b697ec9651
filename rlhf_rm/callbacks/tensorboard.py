"""TensorBoard: curves, the configuration as text, and plots as images."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class TensorBoard(TensorBoardLogger):
    """Lightning's logger into one folder, with figures and the configuration.

    Args:
        directory: where the event files go; ``tensorboard --logdir`` takes it or any folder above.
    """

    def __init__(self, directory: str) -> None:
        super().__init__(directory, name="", version="", default_hp_metric=False)

    @rank_zero_only
    def log_hyperparams(self, params: argparse.Namespace | dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Nothing: :meth:`log_config` has everything."""

    @rank_zero_only
    def log_config(self, config: dict[str, Any]) -> None:
        """The resolved configuration of the run."""
        self.experiment.add_text("config", f"```\n{json.dumps(config, indent=2, default=str)}\n```")

    @rank_zero_only
    def log_figure(self, name: str, figure: "Figure") -> None:
        """A plot as an image."""
        self.experiment.add_figure(name, figure)

    @rank_zero_only
    def log_texts(self, name: str, rows: list[dict[str, Any]], step: int) -> None:
        """Texts with their numbers."""
        shown = "\n\n".join("\n".join(f"    {key}: {value}" for key, value in row.items()) for row in rows)
        self.experiment.add_text(name, shown, step)

    @rank_zero_only
    def close(self) -> None:
        """Write out what is left."""
        self.experiment.close()
