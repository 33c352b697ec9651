"""`rlhf-rm export`: a run as a directory that plain `transformers` opens."""

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from rlhf_rm.callbacks.best import FILE as BEST
from rlhf_rm.callbacks.checkpoint import checkpoints, newest_whole
from rlhf_rm.commands.build import Run, build_run
from rlhf_rm.commands.output import check_output
from rlhf_rm.commands.quiet import quiet
from rlhf_rm.commands.run_directory import METRICS
from rlhf_rm.commands.stored import stored_config
from rlhf_rm.data.trained_on import save_trained_on
from rlhf_rm.errors import UserError, reading
from rlhf_rm.files import read_json, whole_directory
from rlhf_rm.models.actor_critic import ActorCritic
from rlhf_rm.models.export import export
from rlhf_rm.models.full_ensemble import FullEnsemble
from rlhf_rm.models.reward import MEMBER
from rlhf_rm.strategies.sharded_checkpoint import is_sharded, read_whole

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> None:
    """Export a run's best checkpoint if it kept one, else its newest, or the one that is named.

    Raises:
        UserError: no such run or checkpoint, or an output that exists or cannot be written.
    """
    quiet()
    run_dir, output = Path(cfg.run), Path(cfg.output)
    config = stored_config(cfg.run, trusted=cfg.trust_run)
    # Where the run had its cache there may be none now.
    config.paths.cache_dir = cfg.paths.cache_dir
    if "cache_dir" in config.method.datamodule:
        config.method.datamodule.cache_dir = cfg.paths.cache_dir
    if output.exists():
        raise UserError(f"output={output} exists already: choose another directory.")
    best = run_dir / "checkpoints" / BEST
    if cfg.checkpoint:
        found = [Path(cfg.checkpoint)]
        if found[0].is_dir() and not is_sharded(found[0]):
            raise UserError(
                f"checkpoint={found[0]} is a directory: name a checkpoint in it, or none for the run's best "
                "or newest."
            )
    else:
        written = checkpoints(run_dir / "checkpoints")
        found = [best] if best.is_file() else [newest_whole(written, warn=True)] if written else []
    if not found or not found[0].exists():
        raise UserError(
            f"{found[0] if found else run_dir / 'checkpoints'} holds no checkpoint: nothing to export."
        )
    check_output(output)
    parts = build_run(config)
    step = load_weights(parts, found[0])
    sets = measured(run_dir / METRICS, step)
    difference = export_run(parts, output, config, sets)
    print(f"{found[0].name} exported, scores within {difference:.0e} of plain transformers: {output}")


def measured(metrics: Path, step: int) -> dict[str, Any]:
    """What a run's test measured of the weights of this step; nothing if it tested others, or none.

    Raises:
        UserError: the file is damaged, or of an older version.
    """
    if not metrics.is_file():
        return {}
    with reading(metrics, "move it away, and the model card has no measures"):
        results = read_json(metrics)
        tested, sets = int(results["tested_step"]), dict(results["sets"])
    if tested == step:
        return sets
    log.warning(
        "%s is of the weights of step %d, not of step %d: the model card has no measures.",
        metrics,
        tested,
        step,
    )
    return {}


def load_weights(parts: Run, checkpoint: Path) -> int:
    """Put a checkpoint's weights into a run's module.

    Returns:
        The step that they are of.

    Raises:
        UserError: it is damaged, or was made of another model, other data or another tokenizer: shapes alone
            would not tell the last.
    """
    try:
        if is_sharded(checkpoint):
            found = read_whole(checkpoint, weights_only=True)
        else:
            found = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        weights, made_of = found["state_dict"], found[type(parts.datamodule).__qualname__]
        step = int(found["global_step"])
    except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise _strange(checkpoint, error) from error
    parts.datamodule.load_state_dict(made_of)
    try:
        parts.module.load_state_dict(weights)
    except RuntimeError as error:
        raise _strange(checkpoint, error) from error
    return step


def _strange(checkpoint: Path, error: Exception) -> UserError:
    return UserError(f"{checkpoint} is damaged or belongs to another model: {str(error)[:200]}")


def export_run(
    parts: Run, directory: Path, config: DictConfig, sets: Mapping[str, Mapping[str, Any]]
) -> float:
    """Export a run's model with its card and the list of what it was trained on; see :func:`export`.

    The members of an ensemble of whole models lie in directories of their own; of a policy with its critic
    the policy is exported.

    Args:
        parts: the run.
        directory: of the export.
        config: of the run, resolved.
        sets: what its test measured; empty if there was none.
    """
    settings: dict[str, Any] = {
        "max_length": parts.datamodule.encoder.max_length,
        "probes": parts.datamodule.probes(),
        "add": lambda made: save_trained_on(made, parts.datamodule.trained_on()),
        "facts": training_facts(parts, config),
        "sets": sets,
    }
    if isinstance(parts.model, FullEnsemble):
        # All of them or none: a vote counts whoever is there.
        with whole_directory(directory) as made:
            return max(
                export(member, parts.tokenizer, made / f"{MEMBER}{m:02d}", **settings)
                for m, member in enumerate(parts.model.models)
            )
    model = parts.model.actor if isinstance(parts.model, ActorCritic) else parts.model
    return export(model, parts.tokenizer, directory, **settings)


def training_facts(parts: Run, config: DictConfig) -> list[tuple[str, str]]:
    """What the model card says of the training."""
    report = parts.datamodule.report()
    facts = [
        ("data", f"{parts.source.name}, fingerprint {report['fingerprint'][:20]}"),
        ("training examples", f"{len(parts.datamodule.trained_on()):,}"),
        ("method", _named(config.method.module)),
    ]
    if "loss" in config.method.module:
        facts.append(("loss", _named(config.method.module.loss)))
    facts += [
        ("started from", str(config.model.path or "fresh weights, or the base model of its data")),
        ("trained", _named(config.adapter)),
        ("optimiser", _named(config.optimizer)),
        ("schedule", _named(config.scheduler)),
        ("examples a step", f"{config.loader.batch_size} on each of {config.trainer.devices} devices"),
        ("epochs, steps at most", f"{config.trainer.max_epochs}, {config.trainer.max_steps}"),
        ("seed", str(config.seed)),
    ]
    return facts


def _named(node: DictConfig) -> str:
    """A class and its plain settings, such as ``AdamW(lr=0.001)``."""
    settings: dict[str, Any] = {
        str(key): value for key, value in node.items() if not OmegaConf.is_config(value)
    }
    target = str(settings.pop("_target_")).rsplit(".", 1)[-1]
    shown = ", ".join(f"{key}={value}" for key, value in settings.items() if key != "_partial_")
    return f"{target}({shown})"
