"""`rlhf-rm vote`: how strong each preference is, by the vote of several reward models."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig, ListConfig
from rich.progress import Progress

from rlhf_rm import __version__
from rlhf_rm.commands.evaluate import data_config
from rlhf_rm.commands.member_scores import (
    Asked,
    member_differences,
    refuse_other_data,
    refuse_other_templates,
    refuse_what_was_seen,
)
from rlhf_rm.commands.members import Model, find_members, run_of
from rlhf_rm.commands.output import results_directory
from rlhf_rm.commands.quiet import quiet
from rlhf_rm.data.rows import ALL
from rlhf_rm.data.spool import Chain, View
from rlhf_rm.data.strengths import MANIFEST, Strengths, first_rows, from_members, write_strengths
from rlhf_rm.data.types import PreferencePair, PreferenceSource
from rlhf_rm.data.worth_reading import worth_reading, write_worth_reading
from rlhf_rm.errors import UserError
from rlhf_rm.files import sha256, write_json, write_text
from rlhf_rm.voting.drawn import drawn
from rlhf_rm.voting.figures import FIGURES, vote_figures
from rlhf_rm.voting.page import page, text_of
from rlhf_rm.voting.summary import notes_of, summarise

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> Strengths:
    """Score every pair with every member; write ``strengths.parquet``, ``manifest.json``, figures, a page.

    Members that were scored before, in the same directory, on the same data, are not scored again.

    Raises:
        UserError: no such members or data, members that cannot vote together, or a directory that
            holds a training.
    """
    quiet()
    run_dir = results_directory(cfg)
    folds = _folds(cfg.fold)
    members = find_members(_texts(cfg.members), folds)
    refuse_other_templates(members, cfg.template)
    first = run_of(members[0][0])
    source: PreferenceSource = instantiate(data_config(cfg, first))
    if cfg.get("data") is None and "train" in source.splits:
        refuse_other_data(members, first, source)
    sets = _texts(cfg.sets) or [ALL if cfg.get("data") is not None and ALL in source.splits else "train"]
    unknown = [name for name in sets if name not in source.splits]
    if unknown:
        raise UserError(f"sets={unknown} is not in {source.name} data: use {', '.join(source.splits)}.")
    asked = [Asked.of(name, source.pairs(name), folds or 1) for name in sets]
    empty = [one.split for one in asked if not len(one.pair_id)]
    if empty:
        raise UserError(
            f"{source.name} data has no pairs in {', '.join(empty)}: leave it out of sets={sets}."
        )
    for models in members:
        refuse_what_was_seen(models, asked)
    rows: list[NDArray[np.float64]] = []
    with Progress(transient=True, disable=not sys.stdout.isatty()) as bar:
        for number, models in enumerate(members):
            rows.append(member_differences(cfg, models, source, asked, bar))
            log.info("member %d of %d: %s", number + 1, len(members), models[0].run)
    names = [name for one in asked for name in one.pair_id]
    strengths = from_members(names, np.concatenate(rows))
    # Texts stay where the source keeps them: on the disk, if it read them from files.
    given = Chain(source.pairs(name) for name in sets)
    distinct: Sequence[PreferencePair] = View(given, first_rows(names))
    summary = summarise(strengths, notes_of(distinct))
    # Killed between the two, new strengths without a manifest are left, not beside another vote's.
    (run_dir / MANIFEST).unlink(missing_ok=True)
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
    for name in FIGURES:
        if name in figures:
            figures[name].savefig(run_dir / f"{name}.png")
        else:  # of a vote before, in the same directory
            (run_dir / f"{name}.png").unlink(missing_ok=True)
    write_text(run_dir / "vote.html", page(summary, len(strengths.members_MB), read, figures, title))


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


def _texts(value: Any) -> list[str]:
    """One name or several, whatever the command line took them for."""
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, ListConfig) else [str(value)]


def _folds(fold: Any) -> int | None:
    if fold in (None, "none"):
        return None
    if isinstance(fold, int) and fold >= 2:
        return fold
    raise UserError(f"fold={fold} is neither none nor a number of folds of at least 2.")
