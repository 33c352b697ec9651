"""`rlhf-rm vote`: how strong each preference is, by the vote of several reward models."""

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.progress import Progress
from transformers import PreTrainedTokenizerBase

from rlhf_rm import __version__
from rlhf_rm.commands.evaluate import data_config
from rlhf_rm.commands.members import Model, find_members, run_of
from rlhf_rm.commands.quiet import quiet
from rlhf_rm.data.preference import PreferenceDataModule
from rlhf_rm.data.rows import ALL
from rlhf_rm.data.splits import fold_of
from rlhf_rm.data.strengths import MANIFEST, Strengths, from_members, write_strengths
from rlhf_rm.data.trained_on import trained_on
from rlhf_rm.data.types import PreferencePair, PreferenceSource
from rlhf_rm.data.worth_reading import worth_reading, write_worth_reading
from rlhf_rm.errors import UserError
from rlhf_rm.files import cached_directory, fingerprint, sha256, write_json, write_text
from rlhf_rm.methods.scoring import pair_differences
from rlhf_rm.models.load import load_reward_model, tokenizer_of
from rlhf_rm.voting.drawn import drawn
from rlhf_rm.voting.figures import vote_figures
from rlhf_rm.voting.page import page, text_of
from rlhf_rm.voting.summary import notes_of, summarise

log = logging.getLogger(__name__)
SCORES = "differences.npy"  # of a model on a split, (S, B)


def run(cfg: DictConfig) -> Strengths:
    """Score every pair with every member; write ``strengths.parquet``, ``manifest.json``, figures, a page.

    Members that were scored before, in the same directory, on the same data, are not scored again.

    Raises:
        UserError: no such members or data, or members that cannot vote together.
    """
    quiet()
    folds = _folds(cfg.fold)
    patterns = [cfg.members] if isinstance(cfg.members, str) else list(cfg.members or [])
    members = find_members(patterns, folds)
    _same_template(members, cfg.template)
    source: PreferenceSource = instantiate(data_config(cfg, run_of(members[0][0])))
    if cfg.get("data") is None and "train" in source.splits:
        _trained_on_the_same(members, source)
    sets = list(cfg.sets or [ALL if cfg.get("data") is not None and ALL in source.splits else "train"])
    unknown = [name for name in sets if name not in source.splits]
    if unknown:
        raise UserError(f"sets={unknown} is not in {source.name} data: use {', '.join(source.splits)}.")
    run_dir = Path(cfg.paths.run_dir)
    rows: list[NDArray[np.float64]] = []
    with Progress(transient=True, disable=not sys.stdout.isatty()) as bar:
        for number, models in enumerate(members):
            scored = [Scoring(cfg, model, source, bar).differences(name) for model in models for name in sets]
            rows.append(_out_of_fold(scored, models, source, sets))
            log.info("member %d of %d: %s", number + 1, len(members), models[0].run)
    pairs = [pair for name in sets for pair in source.pairs(name)]
    strengths = from_members([pair.pair_id for pair in pairs], np.concatenate(rows))
    first = {pair.pair_id: pair for pair in reversed(pairs)}
    distinct = [first[name] for name in strengths.pair_id]
    summary = summarise(strengths, notes_of(distinct))
    file = write_strengths(run_dir, strengths)
    about = {"strengths": sha256(file)} | manifest(cfg, members, source, sets, summary)
    write_json(run_dir / MANIFEST, about)
    show(run_dir, strengths, distinct, summary, f"Vote on {source.name}")
    print(describe(summary, len(strengths.members_MB)))
    print(f"strengths  {file}, {run_dir / 'vote.html'}, {run_dir / MANIFEST}")
    return strengths


def show(
    run_dir: Path, strengths: Strengths, pairs: Sequence[PreferencePair], summary: dict[str, Any], title: str
) -> None:
    """Leave what is there to look at: the pairs worth reading, the figures, and a page of both."""
    read = worth_reading(strengths.mean, strengths.std, lambda row: text_of(pairs[row]))
    write_worth_reading(run_dir, read)
    figures = vote_figures(drawn(strengths, summary))
    for name, figure in figures.items():
        figure.savefig(run_dir / f"{name}.png")
    write_text(run_dir / "vote.html", page(summary, len(strengths.members_MB), read, figures, title))


@dataclass(frozen=True)
class Scoring:
    """One model's scoring of a source.

    Args:
        cfg: of the command.
        model: whose.
        source: of the pairs.
        bar: of the progress.
    """

    cfg: DictConfig
    model: Model
    source: PreferenceSource
    bar: Progress

    def differences(self, name: str) -> NDArray[np.float64]:
        """r(chosen) − r(rejected) of every pair of a split by each of the model's S members, (S, B), kept."""
        cfg = self.cfg
        key = fingerprint(
            __version__,
            self.model.content,
            self.source.fingerprint(),
            name,
            cfg.template,
            cfg.max_length,
            cfg.loader.too_long,
        )
        kept = cached_directory(
            Path(cfg.paths.run_dir) / "members" / key, lambda made: np.save(made / SCORES, self._score(name))
        )
        return np.asarray(np.load(kept / SCORES, allow_pickle=False), np.float64)

    def _score(self, name: str) -> NDArray[np.float64]:
        cfg = self.cfg
        loaded = load_reward_model(
            self.model.run,
            instantiate(cfg.attention),
            device=cfg.device,
            template=cfg.template,
            trust_remote_code=cfg.trust_remote_code,
        )
        datamodule = datamodule_of(cfg, self.source, loaded.tokenizer, loaded)
        split = datamodule.split(name)
        task = self.bar.add_task(self.model.run, total=len(split))
        began = time.perf_counter()
        found = pair_differences(
            loaded.model,
            datamodule.evaluation_dataloader(name),
            lambda pairs: self.bar.advance(task, pairs),
        )
        self.bar.remove_task(task)
        log.info(
            "%s: %s pairs of %s scored, %.0f pairs/s",
            self.model.run,
            f"{len(split):,}",
            name,
            len(split) / (time.perf_counter() - began),
        )
        # By pair_id: a split may hold its pairs in another order, or without those that are too long.
        at = {pair_id: i for i, pair_id in enumerate(split.column("pair_id"))}
        wanted = [pair.pair_id for pair in self.source.pairs(name)]
        missing = sum(pair not in at for pair in wanted)
        if missing:
            raise UserError(
                f"{missing:,} of {len(wanted):,} pairs of {name} have no score by {self.model.run}, since "
                f"loader.too_long={cfg.loader.too_long} leaves them out: use truncate_prompt_left."
            )
        return np.asarray(found.double().numpy()[:, [at[pair] for pair in wanted]])


def datamodule_of(
    cfg: DictConfig, source: PreferenceSource, tokenizer: PreTrainedTokenizerBase, loaded: Any
) -> PreferenceDataModule:
    """Every pair of a source, to be scored by a model: those that truncation makes identical are ties."""
    return PreferenceDataModule(
        source,
        tokenizer,
        layout=loaded.model.backbone.choose_layout(cfg.loader.layout),
        max_length=min(cfg.max_length or loaded.max_length, loaded.max_length),
        too_long=cfg.loader.too_long,
        batch_size=1,
        eval_batch_size=cfg.loader.eval_batch_size,
        row_tokens=cfg.loader.row_tokens,
        micro_tokens=cfg.loader.micro_tokens,
        row_multiple=cfg.loader.row_multiple,
        workers=cfg.loader.workers,
        seed=0,
        cache_dir=cfg.paths.cache_dir,
        keep_identical=True,
    )


def manifest(
    cfg: DictConfig,
    members: Sequence[Sequence[Model]],
    source: PreferenceSource,
    sets: Sequence[str],
    summary: dict[str, Any],
) -> dict[str, Any]:
    """Where the strengths come from, and what they say."""
    import torch
    import transformers

    return {
        "members": [
            [{"run": one.run, "model": str(one.directory), "weights": one.weights} for one in models]
            for models in members
            for _ in range(models[0].size)
        ],
        "fold": cfg.fold,
        "data": {"source": source.name, "fingerprint": source.fingerprint(), "sets": list(sets)},
        "versions": {
            "rlhf_rm": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "summary": summary,
    }


def describe(summary: dict[str, Any], members: int) -> str:
    """The numbers of a vote as lines."""
    quantiles = ", ".join(f"{q} %: {value:.2f}" for q, value in summary["quantiles"].items())
    lines = [
        "",
        f"{summary['pairs']:,} pairs, {members} members; {summary['negative']:.1%} of the means below 0",
        f"quantiles of the mean  {quantiles}",
    ]
    if "agreement" in summary:
        shares = " ".join(
            "–" if one["agreement"] is None else f"{one['agreement']:.3f}" for one in summary["agreement"]
        )
        lines.append(f"labels that {summary['reference']} agrees with, by tenth of strength  {shares}")
        wrong = summary["wrong_labels"]
        if wrong["auroc"] is not None:
            by = ", ".join(f"{size}: {value:.3f}" for size, value in wrong["auroc_by_members"].items())
            lines.append(
                f"wrong labels  AUROC {wrong['auroc']:.3f} (by number of members {by}), "
                f"precision in the lowest tenth {wrong['precision_lowest_tenth']:.3f}"
            )
    return "\n".join(lines)


def _folds(fold: Any) -> int | None:
    if fold in (None, "none"):
        return None
    if isinstance(fold, int) and fold >= 2:
        return fold
    raise UserError(f"fold={fold} is neither none nor a number of folds of at least 2.")


def _trained_on_the_same(members: Sequence[Sequence[Model]], source: PreferenceSource) -> None:
    """Refuse members of other data than the first one's, which all are to score unless some is named."""
    train = [pair.pair_id for pair in source.pairs("train")]
    known = {model.run: trained_on(model.directory, train) for models in members for model in models}
    strange = [run for run, seen in known.items() if seen is not None and not seen.any()]
    if strange:
        raise UserError(
            f"{len(strange)} of the members were trained on none of the training pairs of {source.name} data "
            f"as {run_of(members[0][0])} names it now, the first of them {strange[0]}: leave them out, or "
            "say with data=… what all are to score."
        )


def _same_template(members: Sequence[Sequence[Model]], template: str) -> None:
    """Refuse members that would see the dialogues differently."""
    seen: dict[str, str] = {}
    for model in (model for models in members for model in models):
        seen.setdefault(str(tokenizer_of(str(model.directory), template).chat_template), model.run)
    if len(seen) > 1:
        first, second = list(seen.values())[:2]
        raise UserError(
            f"{first} and {second} have different chat templates, so they would not judge the same text: "
            "give one for all with template=hh or template=plain, if they were trained with it."
        )


def _out_of_fold(
    scored: Sequence[NDArray[np.float64]],
    models: Sequence[Model],
    source: PreferenceSource,
    sets: Sequence[str],
) -> NDArray[np.float64]:
    """One member's differences, (S, B): by its one model, or each pair by the model without its fold."""
    by_model = np.stack(
        [np.concatenate(scored[at : at + len(sets)], axis=1) for at in range(0, len(scored), len(sets))]
    )
    pairs = [pair for name in sets for pair in source.pairs(name)]
    if len(models) == 1:
        _say_if_trained_on(models[0], [pair.pair_id for pair in pairs])
        return np.asarray(by_model[0])
    fold = fold_of([pair.prompt_id for pair in pairs], len(models))
    for number, model in enumerate(models):
        seen = trained_on(model.directory, [pairs[i].pair_id for i in np.flatnonzero(fold == number)])
        if seen is not None and seen.any():
            raise UserError(
                f"{model.run} was trained on {int(seen.sum()):,} pairs of the fold that it should have left "
                "out: it was trained on other data than this, or with other splits."
            )
    return np.asarray(by_model[fold, :, np.arange(len(pairs))].T)


def _say_if_trained_on(model: Model, pair_ids: Sequence[str]) -> None:
    seen = trained_on(model.directory, pair_ids)
    if seen is not None and seen.any():
        log.info(
            "%s was trained on %.0f %% of these pairs, as in the paper; fold=K scores each with models that "
            "were not",
            model.run,
            100 * seen.mean(),
        )
