"""Preference pairs, encoded and packed, one loader item for each optimiser step."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rlhf_rm.data.batch import PairBatch, Step
from rlhf_rm.data.encode import Dialogue, EncodedPairs, encode_pairs
from rlhf_rm.data.loading import StepLoader
from rlhf_rm.data.module import StepDataModule
from rlhf_rm.data.packing import Packing
from rlhf_rm.data.types import PreferencePair
from rlhf_rm.errors import UserError

log = logging.getLogger(__name__)


class PreferenceDataModule(StepDataModule):
    """Serves a source's preference pairs to a reward model; see :class:`StepDataModule`."""

    unit = "pairs"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._encoded: dict[str, PreferenceSplit] = {}

    def setup(self, stage: str) -> None:
        """Encode the splits that this stage needs, and say what was cut or left out."""
        for split in {"fit": ("train", "validation"), "validate": ("validation",)}.get(stage, ("test",)):
            self.split(split)

    def split(self, name: str) -> "PreferenceSplit":
        """A split's encoded pairs, encoded at first use.

        Raises:
            UserError: the split has no pairs.
        """
        if name not in self._encoded:
            pairs = self.source.pairs(name)
            if not pairs:
                raise UserError(
                    f"the {name} split of {self.source.name} has no pairs: give a larger file, "
                    f"a data.{name}_path of its own, or a larger data.{name}_fraction."
                )
            encoded = encode_pairs(self.encoder, pairs, identical="drop" if name == "train" else "keep")
            if not encoded.trees:
                raise UserError(
                    f"none of the {len(pairs)} pairs of the {name} split is left: all are too long, or "
                    f"identical within {self.encoder.max_length} tokens; raise model.max_length."
                )
            self._encoded[name] = PreferenceSplit(encoded, self.packing)
            _tell(name, encoded.report)
        return self._encoded[name]

    def train_dataloader(self) -> StepLoader:
        """Shuffled steps of exactly ``batch_size`` pairs."""
        train = self.split("train")
        return self.training_steps(train.step, train.sizes)

    def val_dataloader(self) -> StepLoader:
        """Every validation pair once."""
        return self.evaluation_dataloader("validation")

    def test_dataloader(self) -> StepLoader:
        """Every test pair once."""
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, name: str) -> StepLoader:
        """Every pair of any split once, in order."""
        split = self.split(name)
        return self.evaluation_steps(split.step, len(split.pairs))

    def pair_name(self, split: str, index: int) -> str:
        """What an error message calls a pair: its id in the data and its ``pair_id``."""
        pair = self.split(split).pairs[index]
        return f"{pair.id} ({pair.pair_id[:16]}…)" if pair.id else pair.pair_id

    def probes(self, count: int = 8) -> list[Dialogue]:
        """See :class:`StepDataModule`."""
        pairs = self.source.pairs("train")[:count]
        return [(pair.messages, response) for pair in pairs for response in (pair.chosen, pair.rejected)]

    def report(self) -> dict[str, Any]:
        """See :class:`StepDataModule`."""
        return {
            **self.source.report(),
            "fingerprint": self.source.fingerprint(),
            "encoded": {name: split.report for name, split in self._encoded.items()},
        }


class PreferenceSplit:
    """Encoded pairs with their label columns, ready to be packed.

    Args:
        encoded: pairs and their trees.
        packing: how they become forward passes.
    """

    def __init__(self, encoded: EncodedPairs, packing: Packing) -> None:
        self.pairs: Sequence[PreferencePair] = encoded.pairs
        self.trees, self.report, self.packing = encoded.trees, encoded.report, packing
        self.sizes = [tree.size(packing.layout) for tree in encoded.trees]
        count = len(self.pairs)
        self.margin = np.array([pair.margin or 0.0 for pair in self.pairs], np.float32)
        self.target = np.ones(count, np.float32)
        self.weight = np.ones(count, np.float32)

    def step(self, indices: Sequence[int]) -> Step[PairBatch]:
        """The micro-batches of these pairs."""
        micro_batches = []
        for rows, order in self.packing.pack([self.trees[i] for i in indices]):
            index = np.asarray(indices)[order]
            first = torch.arange(len(index)) * 2
            micro_batches.append(
                PairBatch(
                    rows=rows,
                    chosen_B=first,
                    rejected_B=first + 1,
                    margin_B=torch.from_numpy(self.margin[index]),
                    target_B=torch.from_numpy(self.target[index]),
                    weight_B=torch.from_numpy(self.weight[index]),
                    index_B=torch.from_numpy(index),
                )
            )
        return Step(tuple(micro_batches))


def _tell(name: str, report: dict[str, Any]) -> None:
    """One line for what every user should know, and one for each thing that was lost."""
    shared = 1 - report["tokens_shared_once"] / max(1, report["tokens"])
    log.info(
        "%s: %d pairs, %.0f %% of the tokens saved by shared prefixes", name, report["pairs"], 100 * shared
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
