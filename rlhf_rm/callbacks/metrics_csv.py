"""metrics.csv: one row for each step that was logged, kept over a resume."""

import argparse
import csv
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only


class MetricsCSV(Logger):
    """Writes metrics to a CSV file whose columns grow as new metrics come.

    Args:
        path: the file. Rows that are there already stay, up to the step that the run resumes from.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)
        self._rows: list[dict[str, Any]] | None = None
        self._written = 0
        self._columns: list[str] = ["step"]

    @property
    def name(self) -> str:
        """Name of this kind of logger."""
        return "csv"

    @property
    def version(self) -> str:
        """One file a run, so no versions."""
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> Path:
        """The file."""
        return self.path

    @rank_zero_only
    def log_hyperparams(self, params: argparse.Namespace | dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Nothing: the run directory's config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row, and write it out."""
        step = int(step or 0)
        rows = self._load(step)
        row: dict[str, Any] = {"step": step, **{k: float(v) for k, v in metrics.items() if k != "epoch"}}
        grown = [key for key in row if key not in self._columns]
        self._columns += sorted(grown)
        rows.append(row)
        self._write(rewrite=bool(grown) or self._written == 0)

    def _load(self, step: int) -> list[dict[str, Any]]:
        if self._rows is None:
            self._rows = []
            if self.path.is_file():
                with self.path.open(encoding="utf-8", newline="") as file:
                    reader = csv.DictReader(file)
                    self._rows = [row for row in reader if int(row["step"] or 0) < step]
                    self._columns = list(reader.fieldnames or ["step"])
        return self._rows

    def _write(self, rewrite: bool) -> None:
        assert self._rows is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w" if rewrite else "a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            if rewrite:
                writer.writeheader()
            writer.writerows(self._rows if rewrite else self._rows[self._written :])
        self._written = len(self._rows)
