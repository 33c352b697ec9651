"""`rlhf-rm evaluate`: accuracy and calibration of a reward model on preference sets."""

import logging
import sys
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import Progress

from rlhf_rm.commands.output import results_directory
from rlhf_rm.commands.quiet import quiet
from rlhf_rm.commands.stored import stored_config
from rlhf_rm.commands.summary import describe
from rlhf_rm.data.loading import workers_beside
from rlhf_rm.data.preference import PreferenceDataModule
from rlhf_rm.data.rows import ALL, RowSource
from rlhf_rm.data.strengths import Strengths, read_strengths
from rlhf_rm.data.trained_on import trained_on
from rlhf_rm.data.types import PreferenceSource
from rlhf_rm.errors import UserError
from rlhf_rm.files import write_json
from rlhf_rm.methods.scoring import pair_rewards
from rlhf_rm.metrics.drawn import drawn
from rlhf_rm.metrics.evaluation import all_scores_equal
from rlhf_rm.metrics.split import evaluate_split
from rlhf_rm.models.load import LoadedReward, length_within, load_reward_model
from rlhf_rm.plots.preference import preference_figures

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> dict[str, Any]:
    """Measure a model on each of the sets and write ``evaluation.json`` with its figures.

    Raises:
        UserError: no such run or data, or a directory that holds a training.
    """
    quiet()
    run_dir = results_directory(cfg)
    loaded = load_reward_model(
        cfg.run,
        instantiate(cfg.attention),
        device=cfg.device,
        template=cfg.template,
        trust_remote_code=cfg.trust_remote_code,
    )
    source: PreferenceSource = instantiate(data_config(cfg, cfg.run))
    names = sets_of(cfg.evaluate.sets, source) or [default_set(cfg, source)]
    datamodule = pairs_to_score(cfg, source, loaded, keep_identical=False)
    strengths = read_strengths(Path(cfg.evaluate.strengths)) if cfg.evaluate.strengths else None
    sets: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for name in names:
        measured, shown[name] = measure(loaded, datamodule, name, strengths)
        sets.update(measured)
        for figure_name, figure in preference_figures(shown[name], name).items():
            figure.savefig(run_dir / f"{name.replace('/', '_')}_{figure_name}.png")
    write_json(run_dir / "figures.json", {"sets": shown})
    evaluation = {"run": cfg.run, "model": loaded.directory, "data": datamodule.report(), "sets": sets}
    write_json(run_dir / "evaluation.json", evaluation)
    print(describe(sets, [("evaluation", str(run_dir / "evaluation.json")), ("figures", f"{run_dir}/*.png")]))
    return evaluation


def data_config(cfg: DictConfig, run: str) -> Any:
    """The data that was asked for, or the run's own."""
    if cfg.get("data") is not None:
        return cfg.data
    if not (Path(run) / "config.yaml").is_file():
        raise UserError(f"{run} does not say what data it was trained on: name some with data=…")
    return stored_config(run, "data", trusted=cfg.trust_run)


def pairs_to_score(
    cfg: DictConfig, source: PreferenceSource, loaded: LoadedReward, *, keep_identical: bool
) -> PreferenceDataModule:
    """A source's pairs as a model reads them, packed as the configuration says.

    Args:
        cfg: of the command.
        source: of the pairs.
        loaded: the model.
        keep_identical: whether training pairs stay that truncation made identical.
    """
    on_gpu = next(loaded.model.parameters()).device.type == "cuda"  # no trainer tells it
    return PreferenceDataModule(
        source,
        loaded.tokenizer,
        layout=loaded.model.backbone.choose_layout(cfg.loader.layout),
        max_length=length_within(cfg.max_length, loaded.max_length),
        too_long=cfg.loader.too_long,
        batch_size=1,
        eval_batch_size=cfg.loader.eval_batch_size,
        row_tokens=cfg.loader.row_tokens,
        micro_tokens=cfg.loader.micro_tokens,
        row_multiple=cfg.loader.row_multiple,
        workers=workers_beside(cfg.loader.workers, on_gpu=on_gpu),
        seed=0,
        cache_dir=cfg.paths.cache_dir,
        keep_identical=keep_identical,
    )


def sets_of(given: Any, source: PreferenceSource) -> list[str]:
    """The splits that are named, one alone or a list of them; none where none is named.

    Raises:
        UserError: the source has no such split.
    """
    names = [given] if isinstance(given, str) else list(given or [])
    unknown = [name for name in names if name not in source.splits]
    if unknown:
        raise UserError(
            f"evaluate.sets={unknown} is not in {source.name} data: use some of {', '.join(source.splits)}."
        )
    return names


def default_set(cfg: DictConfig, source: PreferenceSource) -> str:
    """The whole of data that was named, unless it has rows of its own for a test; else the test split."""
    whole = cfg.get("data") is not None and ALL in source.splits
    return ALL if whole and not (isinstance(source, RowSource) and "test" in source.parts()) else "test"


def measure(
    loaded: LoadedReward,
    datamodule: PreferenceDataModule,
    name: str,
    strengths: Strengths | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One set's numbers, also of the part that the model was not trained on, and what its figures show."""
    split = datamodule.split(name)
    mean = None if strengths is None else strengths.joined(split.column("pair_id"), what=name).mean
    with Progress(transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task(f"scoring {name}", total=len(split))
        rewards = pair_rewards(
            loaded.model, datamodule.evaluation_dataloader(name), lambda pairs: bar.advance(task, pairs)
        )
    if all_scores_equal(rewards.chosen, rewards.rejected):
        log.warning(
            "%s: every response has the same reward: was the head trained, and is the text not cut?",
            name,
        )
    sets = {name: evaluate_split(rewards, split.columns, strengths=mean)}
    seen = trained_on(Path(loaded.directory), split.column("pair_id"))
    if seen is not None and seen.any():
        sets[name]["trained_on"] = int(seen.sum())
        log.warning(
            "%s: the run was trained on %d of these %d pairs, so its numbers are not those of new data%s",
            name,
            seen.sum(),
            len(seen),
            f"; see {name}_unseen." if not seen.all() else ".",
        )
        if not seen.all():
            sets[f"{name}_unseen"] = evaluate_split(rewards, split.columns, ~seen, mean)
    return sets, drawn(rewards)
