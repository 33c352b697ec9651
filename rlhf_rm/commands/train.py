"""`rlhf-rm train`: fit a method on a data set, then test and export it."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf

from rlhf_rm.callbacks.best import BestCheckpoint
from rlhf_rm.callbacks.checkpoint import check_readable
from rlhf_rm.callbacks.throughput import Throughput
from rlhf_rm.cli import RANK_CONFIG, register_resolvers
from rlhf_rm.commands.build import Run, build_run, build_trainer
from rlhf_rm.commands.checks import check_config, check_recipe, unread
from rlhf_rm.commands.export import export_run
from rlhf_rm.commands.quiet import quiet
from rlhf_rm.commands.responses import row, write_rows
from rlhf_rm.commands.run_directory import CONFIG, METRICS, RunSettings, find_checkpoint
from rlhf_rm.commands.stored import storable
from rlhf_rm.commands.summary import print_summary
from rlhf_rm.data.preference import PreferenceDataModule
from rlhf_rm.data.worth_reading import WorthReading, worth_reading, write_worth_reading
from rlhf_rm.errors import InterruptedRunError, UserError
from rlhf_rm.files import write_json
from rlhf_rm.methods.contrastive import ContrastiveRewardModule
from rlhf_rm.methods.meta import MetaRewardModule
from rlhf_rm.methods.policy import PolicyModule
from rlhf_rm.methods.reward import RewardModule
from rlhf_rm.metrics.drawn import drawn
from rlhf_rm.metrics.embedding import projected
from rlhf_rm.metrics.rewards import Rewards
from rlhf_rm.metrics.shifted import spread
from rlhf_rm.overrides import ASKED, typed, typed_path
from rlhf_rm.plots.embedding import embedding
from rlhf_rm.plots.policy import policy_curves
from rlhf_rm.plots.preference import preference_figures
from rlhf_rm.plots.shifted import shifted_figure
from rlhf_rm.ranks import is_first_rank
from rlhf_rm.strategies.fsdp import FSDPStrategy
from rlhf_rm.strategies.sharded import Sharded
from rlhf_rm.strategies.sharded_checkpoint import FromShards, is_sharded

log = logging.getLogger(__name__)
# What Lightning and vLLM set for ranks; a sweep's next job must not see it.
RANK_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "RANK", "WORLD_SIZE", RANK_CONFIG)


def run(cfg: DictConfig) -> float | None:
    """Train, test and export; returns the metric that a sweep looks at.

    Raises:
        UserError: bad input or configuration.
    """
    started = time.perf_counter()
    quiet()
    if not is_first_rank():
        logging.getLogger().setLevel(logging.WARNING)
    register_resolvers()  # a job of a sweep may run in a process of its own
    run_dir = Path(cfg.paths.run_dir)
    check_config(cfg)
    check_recipe(cfg)
    _say_unread(cfg, run_dir)
    checkpoint = find_checkpoint(run_dir, cfg.resume)
    if checkpoint is not None:
        check_readable(checkpoint)
    L.seed_everything(cfg.seed, verbose=False)
    config = OmegaConf.to_yaml(storable(cfg))
    settings = RunSettings(run_dir, config, resumed=checkpoint is not None)
    with rank_environment(config):
        # Before anything that takes time, so that a mistake in its settings shows at once.
        trainer = build_trainer(cfg)
        _callbacks(trainer).append(settings)
        if trainer.is_global_zero:
            _say_where(run_dir, checkpoint)
        with closing_loggers(trainer, OmegaConf.to_container(storable(cfg))):
            parts = build_run(cfg)
            with closing(parts.module):
                fit(trainer, parts, checkpoint)
                validate(trainer, parts)
                measured = _measured(trainer)
                trainer.test(parts.module, datamodule=parts.datamodule, verbose=False)
                measured |= _measured(trainer)
            parts = with_whole_model(cfg, trainer, parts)
            if trainer.is_global_zero:
                _finish(cfg, trainer, parts, measured, run_dir, started)
            return _optimized(cfg.optimized_metric, measured)


def _say_unread(cfg: DictConfig, run_dir: Path) -> None:
    """A sweep over methods may set what only some of them read; alone it is a mistake."""
    asked = run_dir / ASKED
    unused = unread(cfg, typed(asked)) if is_first_rank() and asked.is_file() else []
    if unused:
        log.warning("%s: this method does not read it, so it changes nothing.", ", ".join(unused))


def fit(trainer: L.Trainer, parts: Run, checkpoint: Path | None) -> None:
    """Fit from the start or from a checkpoint."""
    if checkpoint is not None and is_sharded(checkpoint) and not isinstance(trainer.strategy, FSDPStrategy):
        trainer.strategy.checkpoint_io = FromShards()
    try:
        # Tensors and plain values are all that a checkpoint may hold: whose it is, nobody knows.
        trainer.fit(parts.module, datamodule=parts.datamodule, ckpt_path=checkpoint, weights_only=True)
    except ValueError as error:
        if "val_check_interval" not in str(error):
            raise
        raise UserError(
            f"trainer.val_check_interval={trainer.val_check_interval} is more steps than an epoch has: "
            f"{trainer.num_training_batches}. Give fewer, or a share of an epoch such as 0.5."
        ) from error
    except RuntimeError as error:
        if checkpoint is not None and "state_dict" in str(error):
            raise UserError(
                f"{checkpoint} belongs to another model: resume with the configuration of its run, "
                "which lies in the run's config.yaml."
            ) from error
        raise
    except SystemExit as error:  # so Lightning ends on SIGTERM, as if all were well, and on Ctrl-C
        raise InterruptedRunError(
            "training was interrupted; add resume=auto to the same command and run directory to go on."
        ) from error


def validate(trainer: L.Trainer, parts: Run) -> None:
    """Measure the weights that are tested, unless the last validation of the fit has.

    Loggers hear nothing of weights that were put back: their curves are those of the training to its end.
    """
    restored = _restored(trainer) is not None
    if not restored and parts.module.validated_step == trainer.global_step:
        return
    loggers = trainer.loggers
    try:
        trainer.loggers = [] if restored else loggers
        trainer.validate(parts.module, datamodule=parts.datamodule, verbose=False)
    finally:
        trainer.loggers = loggers


def with_whole_model(cfg: DictConfig, trainer: L.Trainer, parts: Run) -> Run:
    """The run with a model that the first rank can export alone; where it lies in shards, all must ask."""
    if not isinstance(trainer.strategy, Sharded):
        return parts
    weights = trainer.strategy.whole(parts.module)
    if not trainer.is_global_zero:
        return parts
    made = build_run(cfg)
    made.module.load_state_dict(weights)
    return replace(parts, model=made.model)


@contextmanager
def rank_environment(config: str) -> Iterator[None]:
    """Tell the ranks that Lightning starts which job is theirs; afterwards leave no trace of them.

    Args:
        config: of the job, as YAML.
    """
    before = {name: os.environ.get(name) for name in RANK_VARIABLES}
    try:
        with TemporaryDirectory(prefix="rlhf_rm-") as directory:
            file = Path(directory) / CONFIG
            file.write_text(config, encoding="utf-8")
            os.environ[RANK_CONFIG] = str(file)
            yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def closing_loggers(trainer: L.Trainer, config: Any) -> Iterator[None]:
    """Give the configuration to those loggers that take one, and close them at the end, come what may."""
    try:
        for logger in trainer.loggers:
            if hasattr(logger, "log_config"):
                logger.log_config(config)
        yield
    finally:
        for logger in trainer.loggers:
            if hasattr(logger, "close"):
                logger.close()


def _save_figures(trainer: L.Trainer, parts: Run, run_dir: Path) -> None:
    """The plots of the test, as files and as images of the loggers; their numbers; and pairs to be read."""
    module = parts.module
    shown: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    datamodule = parts.datamodule
    if isinstance(module, RewardModule) and module.test_rewards is not None:
        assert isinstance(datamodule, PreferenceDataModule)
        shown["sets"] = {"test": drawn(module.test_rewards)}
        found = preference_figures(shown["sets"]["test"], "test")
        figures |= {f"test/{name}": figure for name, figure in found.items()}
        write_worth_reading(run_dir, _worth_reading(module.test_rewards, datamodule))
    if isinstance(module, ContrastiveRewardModule) and module.states_before and module.states_after:
        shown["embedding"] = projected(module.states_before, module.states_after)
        figures["test/embedding"] = embedding(shown["embedding"])
    if isinstance(module, MetaRewardModule) and module.shifted_before and module.shifted_after:
        shown["shifted"] = spread(module.shifted_before, module.shifted_after)
        figures["val/shifted"] = shifted_figure(shown["shifted"])
    if isinstance(module, PolicyModule) and module.history:
        figures["train/curves"] = policy_curves(module.history)
    if shown:
        write_json(run_dir / "figures.json", {"sets": {}} | shown)
    for name, figure in figures.items():
        figure.savefig(run_dir / f"{name.replace('/', '_')}.png")
        for logger in trainer.loggers:
            if hasattr(logger, "log_figure"):
                logger.log_figure(name, figure)


def _worth_reading(rewards: Rewards, datamodule: PreferenceDataModule) -> list[WorthReading]:
    """The test pairs at the ends and in the middle of what the model says."""
    difference = (rewards.chosen.double() - rewards.rejected.double()).numpy()
    return worth_reading(difference, None, lambda row: datamodule.text("test", int(rewards.index[row])))


def _say_where(run_dir: Path, checkpoint: Path | None) -> None:
    if checkpoint is not None:
        log.info("Going on from %s.", checkpoint)
    log.info(
        "Run directory: %s (if it is interrupted: the same command with %s resume=auto)",
        run_dir,
        typed_path("hydra.run.dir", run_dir),
    )


def _measured(trainer: L.Trainer) -> dict[str, float]:
    """What was logged last of validation and test."""
    logged = trainer.callback_metrics
    return {name: float(value) for name, value in logged.items() if name.startswith(("val/", "test/"))}


def _optimized(name: str | None, measured: dict[str, float]) -> float | None:
    return None if name is None else measured[name]


def _finish(
    cfg: DictConfig,
    trainer: L.Trainer,
    parts: Run,
    measured: dict[str, float],
    run_dir: Path,
    started: float,
) -> None:
    """What the first rank leaves: metrics.json, the export, and a summary on the screen."""
    throughput = next((c for c in _callbacks(trainer) if isinstance(c, Throughput)), None)
    best = _restored(trainer)
    results: dict[str, Any] = {
        **parts.module.results(),
        "validation": {name: value for name, value in measured.items() if name.startswith("val/")},
        "steps": trainer.global_step,
        "tested_step": best.step if best else trainer.global_step,
        "epochs": trainer.current_epoch,
        "ranks": trainer.world_size,
        "unit": parts.datamodule.unit,
        "examples_per_second": throughput.examples_per_second if throughput else None,
        "tokens_per_second": throughput.tokens_per_second if throughput else None,
        "data": parts.datamodule.report(),
    }
    _save_figures(trainer, parts, run_dir)
    if isinstance(parts.module, PolicyModule):
        for name, said in parts.module.spoken.items():
            write_rows(run_dir / f"{name}.jsonl", [row(prompt, [response]) for prompt, response in said])
    exported = run_dir / "export"
    checked = export_run(parts, exported, cfg, results["sets"])
    write_json(run_dir / METRICS, results)
    print_summary(
        results, run_dir=run_dir, exported=exported, difference=checked, seconds=time.perf_counter() - started
    )


def _restored(trainer: L.Trainer) -> BestCheckpoint | None:
    """What has put back the weights of the best validation, if they are not those of the last step."""
    found = (one for one in _callbacks(trainer) if isinstance(one, BestCheckpoint) and one.restored)
    return next(found, None)


def _callbacks(trainer: L.Trainer) -> list[L.Callback]:
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


if __name__ == "__main__":
    sys.exit("use `rlhf-rm train` or `python train.py`")
