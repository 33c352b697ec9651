"""Weights & Biases, so that it can fail without the training failing."""

import argparse
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from rlhf_rm.errors import UserError, first_line
from rlhf_rm.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)


class WandbRun(Logger):
    """Logs metrics, figures and the configuration to one W&B run.

    Where the server cannot be reached, or no key is set, the run is kept offline and a warning says
    how to send it later. Whatever else fails at W&B is a warning too, and logging to it ends. The run's
    id is kept in the run directory, so that a resumed training goes on in the same W&B run. Neither
    code nor the git remote (which may hold a token) is sent; keys come from W&B's own environment
    variables and login, never from the configuration.

    Args:
        run_dir: the run directory.
        project: W&B project.
        entity: W&B user or team; None is the account's default.
        name: of the run; None is the run directory's name.
        group: of the run, such as the sweep that it belongs to; None for no group.
        tags: of the run.
        offline: keep everything on disk, in ``run_dir/wandb``.
        timeout: seconds to wait for the server, at the start and again at the end.
    """

    def __init__(
        self,
        run_dir: str,
        *,
        project: str,
        entity: str | None,
        name: str | None,
        group: str | None,
        tags: list[str],
        offline: bool,
        timeout: float,
    ) -> None:
        super().__init__()
        self.run_dir, self.offline, self.timeout = Path(run_dir), offline, timeout
        self.options: dict[str, Any] = {
            "project": project,
            "entity": entity,
            "name": name or self.run_dir.name,
            "group": group,
            "tags": list(tags),
        }
        self._run: Any = None
        self._failed = False

    @property
    def name(self) -> str:
        """Name of this kind of logger."""
        return "wandb"

    @property
    def version(self) -> str:
        """The id of the W&B run, "" before there is one."""
        path = self.run_dir / "wandb_id"
        found = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        if re.fullmatch(r"[\w-]*", found) is None:  # W&B makes a directory of this name
            raise UserError(f"{path} holds no id of a W&B run: delete it, and a new W&B run begins.")
        return found

    @rank_zero_only
    def log_hyperparams(self, params: argparse.Namespace | dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Nothing: :meth:`log_config` has everything."""

    @rank_zero_only
    def log_config(self, config: dict[str, Any]) -> None:
        """The resolved configuration of the run."""
        self._do(lambda run: run.config.update(config, allow_val_change=True))

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Metrics over ``trainer/step``; a chart each, in sections named by what stands before the slash."""
        values = {name: value for name, value in metrics.items() if name != "epoch"}
        self._do(lambda run: run.log({**values, "trainer/step": int(step or 0)}))

    @rank_zero_only
    def log_figure(self, name: str, figure: "Figure") -> None:
        """A plot as an image."""

        def send(run: Any) -> None:
            import wandb

            run.log({name: wandb.Image(figure)})

        self._do(send)

    @rank_zero_only
    def log_texts(self, name: str, rows: list[dict[str, Any]], step: int) -> None:
        """Texts with their numbers, as a table."""

        def send(run: Any) -> None:
            import wandb

            columns: list[str | int] = list(rows[0])
            data = [[row[str(column)] for column in columns] for row in rows]
            run.log({name: wandb.Table(columns=columns, data=data), "trainer/step": step})

        if rows:
            self._do(send)

    @rank_zero_only
    def close(self) -> None:
        """End the run, waiting for the server no longer than ``timeout``."""
        if self._run is not None:
            run, self._run = self._run, None
            self._guard(run.finish)

    def _do(self, act: Callable[[Any], Any]) -> None:
        if self._run is None and not self._failed:
            self._guard(self._start)
        if self._run is not None:
            self._guard(lambda: act(self._run))

    def _start(self) -> None:
        try:
            self._run = self._init(offline=self.offline)
        except Exception as error:
            if self.offline:
                raise
            log.warning(
                "W&B cannot be reached (%s): the run is kept offline; send it later with `wandb sync %s`.",
                first_line(error),
                self.run_dir / "wandb" / "offline-run-*",
            )
            self._run = self._init(offline=True)
        write_text(self.run_dir / "wandb_id", f"{self._run.id}\n")
        self._run.define_metric("trainer/step")
        self._run.define_metric("*", step_metric="trainer/step")

    def _init(self, *, offline: bool) -> Any:
        import wandb

        settings = wandb.Settings(
            init_timeout=self.timeout,
            finish_timeout=self.timeout,
            finish_timeout_raises=False,
            disable_git=True,
            disable_code=True,
            console="off",
            quiet=True,
        )
        return wandb.init(
            **self.options,
            id=self.version or None,
            resume=None if offline else "allow",
            mode="offline" if offline else "online",
            dir=str(self.run_dir),
            settings=settings,
        )

    def _guard(self, act: Callable[[], Any]) -> None:
        """Do something that W&B may fail at; its failure ends the logging and nothing else."""
        try:
            act()
        except Exception as error:  # nothing that W&B raises may stop a training
            self._failed, self._run = True, None
            log.warning(
                "W&B failed (%s): this run goes on without it; metrics.csv has its numbers.",
                first_line(error),
            )
            _leave()


def _leave() -> None:
    """End W&B's service now: at the end of the process it would fail again, with a traceback."""
    import wandb

    try:
        wandb.teardown()
    except (Exception, SystemExit) as error:  # it exits with the code of a service that was killed
        log.debug("W&B was gone already: %s", first_line(error))
