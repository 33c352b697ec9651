"""What the members of a vote say of each pair, and who may say it.

Shape legend: S members of one model, B pairs.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.progress import Progress

from rlhf_rm import __version__
from rlhf_rm.commands.evaluate import pairs_to_score
from rlhf_rm.commands.members import Model, run_of
from rlhf_rm.data.preference import PreferenceDataModule
from rlhf_rm.data.preference_split import PreferenceSplit
from rlhf_rm.data.splits import fold_of
from rlhf_rm.data.template import wording
from rlhf_rm.data.trained_on import trained_on
from rlhf_rm.data.types import PreferencePair, PreferenceSource
from rlhf_rm.errors import UserError
from rlhf_rm.files import cached_directory, fingerprint
from rlhf_rm.methods.scoring import pair_differences
from rlhf_rm.models.load import LoadedReward, load_reward_model, tokenizer_of

log = logging.getLogger(__name__)
SCORES = "differences.npy"  # of a model on the pairs that it scores in a split, (S, B)


@dataclass(frozen=True)
class Asked:
    """The pairs of a split that are to be scored.

    Args:
        split: its name.
        pair_id: of each pair, B of them, in the order of the source.
        fold: which of a member's models scores it, (B,).
        folds: how many models a member has: 1 without cross-fitting.
    """

    split: str
    pair_id: Sequence[str]
    fold: NDArray[np.int64]
    folds: int

    @classmethod
    def of(cls, split: str, pairs: Sequence[PreferencePair], folds: int) -> "Asked":
        """The pairs of a split, each asked of the model that was trained without its fold."""
        ids = [(pair.pair_id, pair.prompt_id) for pair in pairs]
        return cls(split, [pair for pair, _ in ids], fold_of([prompt for _, prompt in ids], folds), folds)

    def by(self, number: int) -> list[str]:
        """The ``pair_id`` of each pair that a member's model of this number scores."""
        return [pair for pair, fold in zip(self.pair_id, self.fold, strict=True) if fold == number]


@dataclass(frozen=True)
class Scoring:
    """One model's scoring of its pairs; it is opened at the first pair that was not scored before.

    Args:
        cfg: of the command.
        model: whose.
        number: of the fold that it was trained without; 0 without cross-fitting.
        source: of the pairs.
        bar: of the progress.
    """

    cfg: DictConfig
    model: Model
    number: int
    source: PreferenceSource
    bar: Progress

    def differences(self, asked: Asked) -> NDArray[np.float64]:
        """r(chosen) − r(rejected) of its pairs of a split by each of the model's S members, (S, B), kept.

        Raises:
            UserError: a pair that is too long is to be left out, or a reward is no finite number.
        """
        cfg = self.cfg
        if not asked.by(self.number):
            return np.empty((self.model.size, 0))
        key = fingerprint(
            __version__,
            self.model.content,
            self.source.fingerprint(),
            asked.split,
            cfg.template,
            cfg.max_length,
            cfg.loader.too_long,
            *((asked.folds, self.number) if asked.folds > 1 else ()),
        )
        kept = cached_directory(
            Path(cfg.paths.run_dir) / "members" / key, lambda made: np.save(made / SCORES, self._score(asked))
        )
        return np.asarray(np.load(kept / SCORES, allow_pickle=False), np.float64)

    @cached_property
    def _loaded(self) -> LoadedReward:
        cfg = self.cfg
        return load_reward_model(
            self.model.run,
            instantiate(cfg.attention),
            device=cfg.device,
            template=cfg.template,
            trust_remote_code=cfg.trust_remote_code,
        )

    @cached_property
    def _datamodule(self) -> PreferenceDataModule:
        """Every pair of the source: those that truncation makes identical are ties."""
        return pairs_to_score(self.cfg, self.source, self._loaded, keep_identical=True)

    def _score(self, asked: Asked) -> NDArray[np.float64]:
        split = self._datamodule.split(asked.split)
        if asked.folds > 1:
            split = split.without(fold_of(split.column("prompt_id"), asked.folds) != self.number)
        rows = self._rows(split, asked)
        task = self.bar.add_task(self.model.run, total=len(split.kept))
        began = time.perf_counter()
        try:
            found = pair_differences(
                self._loaded.model,
                self._datamodule.evaluation_of(split),
                lambda pairs: self.bar.advance(task, pairs),
            )
        except UserError as error:
            raise UserError(f"{self.model.run}: {error}") from error
        self.bar.remove_task(task)
        rate = len(split.kept) / (time.perf_counter() - began)
        log.info(
            "%s: %s pairs of %s scored, %.0f pairs/s",
            self.model.run,
            f"{len(split.kept):,}",
            asked.split,
            rate,
        )
        return np.asarray(found.double().numpy()[:, rows])

    def _rows(self, split: PreferenceSplit, asked: Asked) -> list[int]:
        """Where the pairs are: a split may hold them in another order, or without those that are too long."""
        names = split.column("pair_id")
        at = {names[row]: i for i, row in enumerate(split.kept)}
        wanted = asked.by(self.number)
        missing = sum(pair not in at for pair in wanted)
        if missing:
            raise UserError(
                f"{missing:,} of {len(wanted):,} pairs of {asked.split} have no score by {self.model.run}, "
                f"since loader.too_long={self.cfg.loader.too_long} leaves them out: use truncate_prompt_left."
            )
        return [at[pair] for pair in wanted]


def member_differences(
    cfg: DictConfig, models: Sequence[Model], source: PreferenceSource, asked: Sequence[Asked], bar: Progress
) -> NDArray[np.float64]:
    """One member's differences of all pairs, split after split, (S, B): each by the model that may."""
    found = [np.empty((models[0].size, len(one.pair_id))) for one in asked]
    for number, model in enumerate(models):
        scoring = Scoring(cfg, model, number, source, bar)
        for one, columns in zip(asked, found, strict=True):
            columns[:, one.fold == number] = scoring.differences(one)
    return np.concatenate(found, axis=1)


def refuse_other_templates(members: Sequence[Sequence[Model]], template: str) -> None:
    """Refuse members that would see the dialogues differently.

    Raises:
        UserError: their own templates differ, and none is set for all.
    """
    seen: dict[tuple[str | None, ...], str] = {}
    for model in (model for models in members for model in models):
        tokenizer = tokenizer_of(str(model.directory), template)
        seen.setdefault(() if template != "auto" else wording(tokenizer), model.run)
    if len(seen) > 1:
        first, second = list(seen.values())[:2]
        raise UserError(
            f"{first} and {second} have different chat templates, so they would not judge the same text: "
            "give one for all with template=hh or template=plain, if they were trained with it."
        )


def refuse_other_data(members: Sequence[Sequence[Model]], first: str, source: PreferenceSource) -> None:
    """Refuse members of other data than the first one's, which all are to score unless some is named.

    Args:
        members: of the vote.
        first: the run whose data is taken.
        source: its data.

    Raises:
        UserError: a member was trained on none of its training pairs.
    """
    train = [pair.pair_id for pair in source.pairs("train")]
    known = {model.run: trained_on(model.directory, train) for models in members for model in models}
    strange = [run for run, seen in known.items() if seen is not None and not seen.any()]
    if strange:
        raise UserError(
            f"{len(strange)} of the members were trained on none of the training pairs of {source.name} data "
            f"as {first} names it now, the first of them {strange[0]}: leave them out, or "
            "say with data=… what all are to score."
        )


def refuse_what_was_seen(models: Sequence[Model], asked: Sequence[Asked]) -> None:
    """Refuse a member whose models were trained on what they should not have seen; say what else they saw.

    Raises:
        UserError: a model saw pairs of the fold that it is to score or does not say what it saw, or without
            cross-fitting, it was trained without a fold of these pairs.
    """
    for number, model in enumerate(models):
        seen = trained_on(model.directory, [pair for one in asked for pair in one.by(number)])
        if len(models) == 1:
            _refuse_half_seen(model, seen)
        elif seen is None:
            raise UserError(
                f"{model.run} does not say what it was trained on, so it may have seen what it is to score: "
                f"move its export away and make it anew (rlhf-rm export run={run_of(model)} "
                "output=RUN/export), or vote with fold=none."
            )
        elif seen.any():
            raise UserError(
                f"{model.run} was trained on {int(seen.sum()):,} pairs of the fold that it should have left "
                "out: it was trained on other data than this, or with other splits."
            )


def _refuse_half_seen(model: Model, seen: NDArray[np.bool_] | None) -> None:
    if seen is None or not seen.any():
        return
    if model.fold is not None:
        raise UserError(
            f"{model.run} was trained without fold {model.fold}, so with fold=none it would score pairs that "
            "it has seen, and others that it has not: give fold=K with the number of folds, or models that "
            "were trained on all."
        )
    log.info(
        "%s was trained on %.0f %% of these pairs%s; fold=K scores each with models that were not",
        model.run,
        100 * seen.mean(),
        ", as in the paper" if seen.all() else "",
    )
