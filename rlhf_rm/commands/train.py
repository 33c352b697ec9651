"""`rlhf-rm train`: fit a method on a data set, then test and export it."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from rlhf_rm.callbacks.checkpoint import checkpoints
from rlhf_rm.callbacks.throughput import Throughput
from rlhf_rm.cli import RANK_CONFIG
from rlhf_rm.commands.build import Run, build_run
from rlhf_rm.commands.export import export_run
from rlhf_rm.commands.quiet import quiet
from rlhf_rm.commands.summary import print_summary
from rlhf_rm.errors import UserError
from rlhf_rm.files import write_json, write_text

log = logging.getLogger(__name__)
# What Lightning sets for the ranks it starts; a sweep's next job must not see it.
RANK_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", RANK_CONFIG)


def run(cfg: DictConfig) -> float | None:
    """Train, test and export; returns the metric that a sweep looks at.

    Raises:
        UserError: bad input or configuration.
    """
    started = time.perf_counter()
    quiet()
    run_dir = Path(cfg.paths.run_dir)
    check_numbers(cfg)
    checkpoint = find_checkpoint(run_dir, cfg.resume)
    L.seed_everything(cfg.seed, verbose=False)
    config = save_config(cfg, run_dir)
    with rank_environment(config):
        # Before anything that takes time, so that a mistake in its settings shows at once.
        trainer: L.Trainer = instantiate(
            cfg.trainer, callbacks=_objects(cfg.callbacks), logger=_objects(cfg.logger)
        )
        if trainer.is_global_zero:
            _say_where(run_dir, checkpoint)
        parts = build_run(cfg)
        fit(trainer, parts, checkpoint)
        trainer.test(parts.module, datamodule=parts.datamodule, verbose=False)
        return _finish(cfg, trainer, parts, run_dir, started) if trainer.is_global_zero else None


def check_numbers(cfg: DictConfig) -> None:
    """Refuse what Lightning would only notice after the data is read and the base model made.

    Raises:
        UserError: a number of epochs or steps that is none.
    """
    for key in ("max_epochs", "max_steps"):
        value = cfg.trainer.get(key)
        if value is not None and not (isinstance(value, int) and value >= -1):
            raise UserError(f"trainer.{key}={value} must be a whole number, or -1 for no limit.")


def fit(trainer: L.Trainer, parts: Run, checkpoint: Path | None) -> None:
    """Fit from the start or from a checkpoint."""
    try:
        # Our own checkpoint, written by this program in the run directory: its counters are plain objects.
        trainer.fit(parts.module, datamodule=parts.datamodule, ckpt_path=checkpoint, weights_only=False)
    except RuntimeError as error:
        if checkpoint is not None and "state_dict" in str(error):
            raise UserError(
                f"{checkpoint} belongs to another model: resume with the configuration of its run, "
                "which lies in the run's config.yaml."
            ) from error
        raise
    except SystemExit as error:  # so Lightning ends on SIGTERM, as if all were well, and on Ctrl-C
        raise UserError(
            "training was interrupted; add resume=auto to the same command and run directory to go on."
        ) from error


def find_checkpoint(run_dir: Path, resume: str | None) -> Path | None:
    """The checkpoint to go on from.

    Raises:
        UserError: the run directory holds a run that nobody asked to resume, or there is no such file.
    """
    found = checkpoints(run_dir / "checkpoints")
    if resume is None:
        if found and "LOCAL_RANK" not in os.environ:
            raise UserError(
                f"{run_dir} already holds a run: add resume=auto to go on with it, "
                "or choose another directory with hydra.run.dir=DIR."
            )
        return None
    if resume == "auto":
        return found[-1] if found else None
    path = Path(resume)
    if path.is_dir():
        inside = checkpoints(path / "checkpoints") or checkpoints(path)
        if inside:
            return inside[-1]
    elif path.is_file():
        return path
    raise UserError(f"resume={resume} is neither auto nor a checkpoint nor a run directory that holds one.")


def save_config(cfg: DictConfig, run_dir: Path) -> Path:
    """The resolved configuration in the run directory; ranks that Lightning starts read it."""
    path = run_dir / "config.yaml"
    if os.environ.get("LOCAL_RANK", "0") == "0":
        write_text(path, OmegaConf.to_yaml(cfg, resolve=True))
    return path


@contextmanager
def rank_environment(config: Path) -> Iterator[None]:
    """Tell the ranks that Lightning starts which job is theirs; afterwards leave no trace of them."""
    before = {name: os.environ.get(name) for name in RANK_VARIABLES}
    os.environ[RANK_CONFIG] = str(config.resolve())
    try:
        yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _objects(group: DictConfig | None) -> list[Any]:
    return [instantiate(one) for one in (group or {}).values() if one is not None]


def _say_where(run_dir: Path, checkpoint: Path | None) -> None:
    if checkpoint is not None:
        log.info("Going on from %s.", checkpoint)
    log.info(
        "Run directory: %s (if it is interrupted: the same command with hydra.run.dir=%s resume=auto)",
        run_dir,
        run_dir,
    )


def _finish(cfg: DictConfig, trainer: L.Trainer, parts: Run, run_dir: Path, started: float) -> float | None:
    """What the first rank leaves: metrics.json, the export, and a summary on the screen."""
    throughput = next((c for c in _callbacks(trainer) if isinstance(c, Throughput)), None)
    results: dict[str, Any] = {
        **parts.module.results(),
        "steps": trainer.global_step,
        "epochs": trainer.current_epoch,
        "ranks": trainer.world_size,
        "unit": parts.datamodule.unit,
        "examples_per_second": throughput.examples_per_second if throughput else None,
        "tokens_per_second": throughput.tokens_per_second if throughput else None,
        "data": parts.datamodule.report(),
    }
    exported = run_dir / "export"
    checked = export_run(parts, exported)
    write_json(run_dir / "metrics.json", results)
    print_summary(
        results, run_dir=run_dir, exported=exported, difference=checked, seconds=time.perf_counter() - started
    )
    first = next(iter(results["sets"].values()))
    if cfg.optimized_metric is None:
        return None
    if cfg.optimized_metric not in first:
        raise UserError(
            f"optimized_metric={cfg.optimized_metric} is no test metric: use one of {', '.join(first)}."
        )
    return float(first[cfg.optimized_metric])


def _callbacks(trainer: L.Trainer) -> list[L.Callback]:
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


if __name__ == "__main__":
    sys.exit("use `rlhf-rm train` or `python train.py`")
