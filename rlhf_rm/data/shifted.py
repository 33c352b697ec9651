"""K responses to each prompt, without labels: what a policy says, for a reward model to tell apart.

Shape legend: P prompts, K responses to a prompt, R responses to all prompts, N distinct ones of a forward
pass, B pairs of responses to the same prompt.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlhf_rm.data.batch import Rows, Step, TensorRecord, idle_rows
from rlhf_rm.data.encode import DialogueEncoder, Encoded
from rlhf_rm.data.packing import Packing, Tree, shared_prefix
from rlhf_rm.data.prompts import Prompt
from rlhf_rm.data.splits import assign_split
from rlhf_rm.data.store import TreeStore, TreeWriter
from rlhf_rm.data.types import prompt_id
from rlhf_rm.files import read_json, write_json
from rlhf_rm.functional.meta import pair_weight

COLUMNS = "responses.npz"
REPORT = "report.json"
COUNTS = ("prompts_given", "prompts_all_equal", "prompts_dropped_too_long", "responses_too_long")
CHUNK = 256  # prompts tokenised at once


@dataclass(frozen=True, slots=True)
class ResponseBatch(TensorRecord):
    """Responses of one forward pass, in pairs to the same prompt.

    Args:
        rows: the packed tokens of the N distinct responses; each prompt's are stored once.
        first_B, second_B: which of the N each pair compares; equal where a response came twice.
        weight_B: of each pair in its prompt's objective, 2/K².
        prompt_P: position of each prompt in its set.
        first_gold_B, second_gold_B: the true rewards of a pair; NaN where they are not known.
    """

    rows: Rows
    first_B: Tensor
    second_B: Tensor
    weight_B: Tensor
    prompt_P: Tensor
    first_gold_B: Tensor
    second_gold_B: Tensor

    @classmethod
    def idle(cls, device: torch.device) -> Self:
        """No prompts, over rows that can be passed through a model."""
        number, value = (torch.empty(0, dtype=kind, device=device) for kind in (torch.long, torch.float32))
        return cls(idle_rows(device), number, number, value, number, value, value)

    @property
    def examples(self) -> int:
        """Number of prompts."""
        return len(self.prompt_P)


class ShiftedResponses:
    """The encoded responses to some prompts, ready to be packed.

    Args:
        trees: the distinct responses to each prompt.
        first: where each prompt begins among all responses, (P + 1,).
        branch: which of its tree's branches each response is, (R,).
        gold: the true reward of each response, (R,); NaN where it is not known.
        report: counts of what was read and left out.
    """

    def __init__(
        self,
        trees: TreeStore,
        first: NDArray[np.int64],
        branch: NDArray[np.int16],
        gold: NDArray[np.float64],
        report: dict[str, Any],
    ) -> None:
        self.trees, self.first, self.branch, self.gold, self.report = trees, first, branch, gold, report

    def __len__(self) -> int:
        return len(self.trees)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """What :func:`encode_responses` left in ``directory``."""
        with np.load(directory / COLUMNS, allow_pickle=False) as columns:
            arrays = dict(columns)
        return cls(TreeStore.open(directory), **arrays, report=read_json(directory / REPORT))

    def step(self, indices: Sequence[int], packing: Packing) -> Step[ResponseBatch]:
        """The micro-batches of the responses to these prompts, each with all pairs of its prompts."""
        trees = [self.trees[i] for i in indices]
        return Step(
            tuple(
                self._batch(rows, [(indices[tree], len(trees[tree].branches)) for tree in order])
                for rows, order in packing.pack(trees)
            )
        )

    def _batch(self, rows: Rows, prompts: Sequence[tuple[int, int]]) -> ResponseBatch:
        """The pairs of a forward pass over these prompts, each with its number of distinct responses."""
        columns: list[NDArray[np.float64]] = []
        begin = 0
        for prompt, distinct in prompts:
            whose = slice(self.first[prompt], self.first[prompt + 1])
            branch, gold = begin + self.branch[whose].astype(np.int64), self.gold[whose]
            i, j = np.triu_indices(len(branch), k=1)
            weight = np.full(len(i), pair_weight(len(branch)))
            columns.append(np.stack([branch[i], branch[j], weight, gold[i], gold[j]]))
            begin += distinct
        first, second, weight, first_gold, second_gold = torch.from_numpy(np.concatenate(columns, axis=1))
        return ResponseBatch(
            rows=rows,
            first_B=first.long(),
            second_B=second.long(),
            weight_B=weight.float(),
            prompt_P=torch.tensor([prompt for prompt, _ in prompts]),
            first_gold_B=first_gold,
            second_gold_B=second_gold,
        )


def split_prompts(
    responses: Mapping[Prompt, list[str]], held_out: float
) -> dict[str, dict[Prompt, list[str]]]:
    """The responses of ``train`` and of ``validation``, by a hash of their prompt.

    Args:
        responses: to each prompt.
        held_out: share of the prompts for validation.
    """
    sides: dict[str, dict[Prompt, list[str]]] = {"train": {}, "validation": {}}
    for prompt, texts in responses.items():
        # Another hash than that of the data's own splits, whose training prompts would all be on one side.
        name = f"responses:{prompt_id(prompt)}"
        side = assign_split(name, validation_fraction=held_out, test_fraction=0.0, split_seed=0)
        sides[side][prompt] = texts
    return sides


def encode_responses(
    encoder: DialogueEncoder,
    responses: Mapping[Prompt, list[str]],
    gold: Callable[[Prompt, str], float],
    directory: Path,
) -> None:
    """Tokenise the responses to each prompt, and find what they share.

    A prompt whose responses are all equal teaches nothing and is left out, and so is one with a response that
    is too long, where ``encoder.too_long`` is ``drop``; both are counted.

    Args:
        encoder: with its policy for what is too long.
        responses: to each prompt, 2 or more.
        gold: the true reward of a response, or NaN.
        directory: an empty one for the files.

    Raises:
        UserError: see :meth:`~rlhf_rm.data.encode.DialogueEncoder.encode`.
    """
    counts = Counter(dict.fromkeys(COUNTS, 0))
    number: list[int] = []
    branch: list[int] = []
    golds: list[float] = []
    with TreeWriter(directory) as writer:
        for prompt, texts, encoded in _encoded(encoder, responses, counts):
            counts["responses_too_long"] += sum(one.too_long for one in encoded)
            if encoder.too_long == "drop" and any(one.too_long for one in encoded):
                counts["prompts_dropped_too_long"] += 1
                continue
            distinct = list(dict.fromkeys(texts))
            branches = tuple(one.ids for one in encoded)
            writer.add(Tree(branches, shared_prefix(branches), tuple(one.prompt_tokens for one in encoded)))
            number.append(len(texts))
            branch += [distinct.index(text) for text in texts]
            by_text = {text: gold(prompt, text) for text in distinct}
            golds += [by_text[text] for text in texts]
    np.savez(
        directory / COLUMNS,
        first=np.concatenate([[0], np.cumsum(number, dtype=np.int64)]).astype(np.int64),
        branch=np.array(branch, np.int16),
        gold=np.array(golds, np.float64),
    )
    report = dict(counts) | {
        "prompts": len(number),
        "responses": len(branch),
        "distinct": sum(writer.branches),
    }
    write_json(directory / REPORT, report)


def _encoded(
    encoder: DialogueEncoder, responses: Mapping[Prompt, list[str]], counts: Counter[str]
) -> Iterator[tuple[Prompt, list[str], list[Encoded]]]:
    """Each prompt with its responses, and the tokens of the distinct ones, where there are two or more."""
    everything = iter(responses.items())
    while chunk := list(itertools.islice(everything, CHUNK)):
        counts["prompts_given"] += len(chunk)
        several = [(prompt, texts) for prompt, texts in chunk if len(set(texts)) > 1]
        counts["prompts_all_equal"] += len(chunk) - len(several)
        dialogues = [(prompt, text) for prompt, texts in several for text in dict.fromkeys(texts)]
        names = [f"a response to {prompt[-1].content[:40]!r}" for prompt, _ in dialogues]
        encoded = iter(encoder.encode(dialogues, names=names))
        for prompt, texts in several:
            yield prompt, texts, [next(encoded) for _ in dict.fromkeys(texts)]
