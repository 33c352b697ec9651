"""metrics.csv: one row for each step that was logged, kept over a resume."""

import argparse
import csv
import io
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from rlhf_rm.files import write_text


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
        """Add to the step's row, and write it out."""
        step = int(step or 0)
        values = {key: float(value) for key, value in metrics.items() if key != "epoch"}
        # A validation with which a run goes on belongs to the row of the step before it.
        rows = self._load(step + 1 if all(key.startswith("val/") for key in values) else step)
        grown = sorted(values.keys() - set(self._columns))
        self._columns += grown
        again = bool(rows) and int(rows[-1]["step"]) == step  # a validation after the step
        if again:
            rows[-1].update(values)
        else:
            rows.append({"step": step, **values})
        self._write(rewrite=bool(grown) or again or self._written == 0)

    def _load(self, end: int) -> list[dict[str, Any]]:
        if self._rows is None:
            self._rows = []
            if self.path.is_file():
                with self.path.open(encoding="utf-8", newline="") as file:
                    reader = csv.DictReader(file)
                    self._rows = [row for row in reader if int(row["step"] or 0) < end]
                    self._columns = list(reader.fieldnames or ["step"])
        return self._rows

    def _write(self, rewrite: bool) -> None:
        assert self._rows is not None
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        if rewrite:
            writer.writeheader()
        writer.writerows(self._rows if rewrite else self._rows[self._written :])
        if rewrite:  # whole or not at all, so that a killed run loses nothing
            write_text(self.path, text.getvalue())
        else:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text.getvalue())
        self._written = len(self._rows)
