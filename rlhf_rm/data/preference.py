"""Preference pairs, encoded and packed, one loader item for each optimiser step."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rlhf_rm import __version__
from rlhf_rm.data.batch import PairBatch, Step
from rlhf_rm.data.encode import Dialogue
from rlhf_rm.data.encoded import FORMAT, REPORT, EncodedPairs, encode_pairs
from rlhf_rm.data.loading import StepLoader
from rlhf_rm.data.module import StepDataModule
from rlhf_rm.data.preference_split import PreferenceSplit
from rlhf_rm.data.relabel import Relabelling, summary
from rlhf_rm.data.splits import fold_of
from rlhf_rm.data.types import PreferencePair
from rlhf_rm.data.worth_reading import Text
from rlhf_rm.errors import UserError
from rlhf_rm.files import cached_directory, fingerprint, read_json, write_json
from rlhf_rm.ranks import is_first_rank

log = logging.getLogger(__name__)


class PreferenceDataModule(StepDataModule):
    """Serves a source's preference pairs to a reward model; see :class:`StepDataModule`.

    A split is tokenised once and kept in ``cache_dir`` under a name made from everything that it
    depends on; afterwards its tokens are mapped from there, shared by all ranks, and the source's
    texts are not read again. One example is one pair, or where a source has K responses a prompt,
    one prompt with all its pairs.

    Args:
        cache_dir: where encoded splits are kept; None keeps them for as long as this object lives.
        folds: how many parts the training prompts fall into, by their hash, for cross-fitting.
        held_out_fold: the part that is not trained on, from 0; None trains on all.
        keep_identical: whether training pairs stay that truncation made identical; to score, not to train.
        recipe, strengths: what makes the label columns of the training pairs, and from where; see
            :class:`Relabelling`. None leaves the labels as they are. Only training pairs are changed: what
            is measured is measured on the data's own labels.

    Raises:
        UserError: there is no such fold, or no such strengths.
    """

    unit = "pairs"

    def __init__(
        self,
        *args: Any,
        cache_dir: Path | str | None,
        folds: int = 1,
        held_out_fold: int | None = None,
        keep_identical: bool = False,
        recipe: Callable[..., Any] | None = None,
        strengths: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not ((folds == 1 and held_out_fold is None) or (folds > 1 and held_out_fold in range(folds))):
            raise UserError(
                f"held_out_fold={held_out_fold} of folds={folds} is none: with 2 folds or more they are "
                "numbered from 0; without cross-fitting folds=1 and held_out_fold=null."
            )
        self.folds, self.held_out_fold = folds, held_out_fold
        self.keep_identical = keep_identical
        self.relabelling = Relabelling(strengths, recipe) if recipe is not None else None
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self._splits: dict[str, PreferenceSplit] = {}

    def setup(self, stage: str) -> None:
        """Encode the splits that this stage needs, and say what was cut or left out.

        Raises:
            UserError: a split has no pairs; a fit also asks for those of the test that is to follow.
        """
        for split in {"fit": ("train", "validation"), "validate": ("validation",)}.get(stage, ("test",)):
            self.split(split)
        tested = self.trainer is not None and self.trainer.limit_test_batches != 0
        # Asked once, and of the source only where it was read for the other splits just now.
        if (
            stage == "fit"
            and tested
            and is_first_rank()
            and not (self._directory / self._key("test")).is_dir()
        ):
            self._pairs("test")

    def split(self, name: str) -> PreferenceSplit:
        """A split's encoded pairs, encoded at first use.

        Raises:
            UserError: the split has no pairs.
        """
        if name not in self._splits:
            directory = cached_directory(
                self._directory / self._key(name), lambda made: self._encode(name, made)
            )
            encoded = EncodedPairs.open(directory)
            split = PreferenceSplit(encoded, self.packing)
            _tell(name, encoded.report)
            if name == "train" and self.held_out_fold is not None:
                fold = fold_of(split.column("prompt_id"), self.folds)
                split = split.without(fold == self.held_out_fold)
                log.info("train: %d pairs are left without fold %d", len(split.kept), self.held_out_fold)
            if name == "train" and self.relabelling is not None:
                split = self._relabelled(split)
            self._splits[name] = split
        return self._splits[name]

    def _relabelled(self, train: PreferenceSplit) -> PreferenceSplit:
        """The training pairs with the columns of the recipe."""
        assert self.relabelling is not None
        split = self.relabelling(train)
        kept = len(split.kept)
        if kept < len(train) and kept < self.batch_size:
            raise UserError(
                f"the recipe leaves {kept} pairs, fewer than one step takes ({self.batch_size}): "
                "let it keep more, or lower loader.batch_size."
            )
        return split

    def state_dict(self) -> dict[str, Any]:
        """As in the base class, with a hash of the label columns that are trained on."""
        return super().state_dict() | {"labels": self.split("train").labels.content_hash()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in the base class; labels by another recipe or fold are refused too.

        Raises:
            UserError: see above.
        """
        super().load_state_dict(state_dict)
        if state_dict["labels"] != self.split("train").labels.content_hash():
            raise UserError(
                "the checkpoint was made with other labels (recipe, strengths, held-out fold) than these: "
                "resume with the settings of its run, which lie in the run's config.yaml, or start anew."
            )

    def train_dataloader(self) -> StepLoader:
        """Shuffled steps of exactly ``batch_size`` examples."""
        return self.training_steps(self.train_step, self.split("train").sizes)

    def train_step(self, indices: Sequence[int]) -> Step[PairBatch]:
        """The micro-batches of one training step with these examples."""
        return self.split("train").step(indices)

    def val_dataloader(self) -> StepLoader:
        """Every validation pair once."""
        return self.evaluation_dataloader("validation")

    def test_dataloader(self) -> StepLoader:
        """Every test pair once."""
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, name: str) -> StepLoader:
        """Every pair of any split once, in order."""
        return self.evaluation_of(self.split(name))

    def evaluation_of(self, split: PreferenceSplit) -> StepLoader:
        """Every pair that a split serves once, in order."""
        return self.evaluation_steps(split.step, len(split.sizes))

    def pair_name(self, split: str, index: int) -> str:
        """How a message names a pair: its own id and the beginning of its ``pair_id``."""
        table = self.split(split).table
        return f"{table['id'][index].as_py()} ({table['pair_id'][index].as_py()[:16]}…)"

    def text(self, split: str, index: int) -> Text:
        """A pair as the model reads it: without what was cut, and without special tokens."""
        served = self.split(split)
        row = served.table.slice(index, 1).to_pylist()[0]
        tree = served.trees[row["tree"]]
        (chosen, begins), (rejected, _) = (
            (tree.branches[row[side]], tree.prompt_tokens[row[side]]) for side in ("chosen", "rejected")
        )
        prompt, chosen, rejected = (
            str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()
            for tokens in (chosen[:begins], chosen[begins:], rejected[begins:])
        )
        return Text(row["id"] or row["pair_id"][:16], prompt, chosen, rejected)

    def probes(self, count: int = 8) -> list[Dialogue]:
        """See :class:`StepDataModule`."""
        return self.split("train").probes[: 2 * count]

    def trained_on(self) -> list[str]:
        """See :class:`StepDataModule`."""
        train = self.split("train")
        names = train.column("pair_id")
        return [names[i] for i in train.kept]

    def report(self) -> dict[str, Any]:
        """See :class:`StepDataModule`."""
        report = {
            **read_json(self._source_report),
            "fingerprint": self.source.fingerprint(),
            "encoded": {name: split.report for name, split in self._splits.items()},
        }
        if self.relabelling is not None and "train" in self._splits:
            columns = self._splits["train"].labels
            report["denoise"] = {"strengths": self.relabelling.strengths} | summary(columns)
        return report

    @cached_property
    def _directory(self) -> Path:
        if self.cache_dir is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="rlhf_rm-")
            return Path(self._temporary.name)
        directory = self.cache_dir / "encoded"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    @property
    def _source_report(self) -> Path:
        """The source's own report, which would cost reading the source again."""
        directory = self._directory / f"source_{self.source.fingerprint()[:20]}"
        return (
            cached_directory(directory, lambda made: write_json(made / REPORT, self.source.report())) / REPORT
        )

    def _key(self, name: str) -> str:
        return fingerprint(
            __version__,
            FORMAT,
            self.source.fingerprint(),
            name,
            self.tokenizer.backend_tokenizer.to_str(),
            self.tokenizer.special_tokens_map,  # the template only names EOS and others
            self.tokenizer.chat_template,
            self.encoder.max_length,
            self.encoder.too_long,
            self._identical(name),
        )

    def _identical(self, name: str) -> str:
        return "drop" if name == "train" and not self.keep_identical else "keep"

    def _encode(self, name: str, directory: Path) -> None:
        pairs = self._pairs(name)
        if not len(encode_pairs(self.encoder, pairs, identical=self._identical(name), directory=directory)):
            raise UserError(
                f"none of the {len(pairs)} pairs of the {name} split is left: all are too long, or "
                f"identical within {self.encoder.max_length} tokens; raise model.max_length."
            )

    def _pairs(self, name: str) -> Sequence[PreferencePair]:
        """The pairs of a split.

        Raises:
            UserError: there are none.
        """
        pairs = self.source.pairs(name)
        if pairs:
            return pairs
        mend = f"a data.{name}_path of its own, or a larger data.{name}_fraction"
        if name == "train":
            mend = (
                "or smaller data.validation_fraction and data.test_fraction; a pair whose prompt is also in "
                "data.validation_path or data.test_path is not trained on"
            )
        raise UserError(f"the {name} split of {self.source.name} has no pairs: give a larger file, {mend}.")


def _tell(name: str, report: dict[str, Any]) -> None:
    """One line for what every user should know, and one for each thing that was lost."""
    shared = 1 - report["tokens_shared_once"] / max(1, report["tokens"])
    prompts = f" of {report['prompts']} prompts" if report["prompts"] < report["pairs"] else ""
    log.info(
        "%s: %d pairs%s, %.0f %% of the tokens saved by shared prefixes",
        name,
        report["pairs"],
        prompts,
        100 * shared,
    )
    if report["pairs_too_long"]:
        log.warning(
            "%s: %d of %d pairs exceed model.max_length=%d (the longest has %d tokens): loader.too_long=%s",
            name,
            report["pairs_too_long"],
            report["pairs_given"],
            report["max_length"],
            report["longest_given"],
            report["too_long"],
        )
    if report["pairs_identical"]:
        log.warning(
            "%s: %d pairs are identical after truncation and were %s; a larger model.max_length mends it",
            name,
            report["pairs_identical"],
            "dropped" if report["pairs_dropped_identical"] else "kept as ties",
        )
