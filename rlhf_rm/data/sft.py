"""Demonstrations, encoded and packed for supervised fine-tuning."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from rlhf_rm.data.batch import Rows, Step, TextBatch
from rlhf_rm.data.encode import Dialogue
from rlhf_rm.data.loading import StepLoader
from rlhf_rm.data.module import StepDataModule
from rlhf_rm.data.packing import Tree
from rlhf_rm.data.spool import Chain, View
from rlhf_rm.data.types import Message, PreferenceSource
from rlhf_rm.errors import UserError


@runtime_checkable
class DemonstrationSource(Protocol):
    """A source that has dialogues to imitate, each ending in an assistant message."""

    def demonstrations(self, split: str) -> Sequence[Sequence[Message]]:
        """The dialogues of one split, always in the same order."""
        ...

    def demonstrations_fingerprint(self) -> str:
        """A hash of the dialogues of every split."""
        ...


class SFTDataModule(StepDataModule):
    """Serves dialogues to :class:`~rlhf_rm.methods.sft.SFTModule`; see :class:`StepDataModule`.

    A source without demonstrations gives the chosen responses of its pairs. There is nothing to share
    between dialogues, so ``layout=shared`` means ``packed`` here.
    """

    unit = "dialogues"

    def __init__(self, source: PreferenceSource, *args: Any, layout: str, **kwargs: Any) -> None:
        super().__init__(source, *args, layout="packed" if layout == "shared" else layout, **kwargs)
        self._trees: dict[str, list[Tree]] = {}

    def trees(self, split: str) -> list[Tree]:
        """The encoded dialogues of a split, encoded at first use.

        Raises:
            UserError: the split has no dialogues, or none that is short enough.
        """
        if split not in self._trees:
            dialogues = dialogues_of(self.source, split)
            if not dialogues:
                raise UserError(f"the {split} split of {self.source.name} has no dialogues to learn from.")
            encoded = self.encoder.encode([(tuple(d[:-1]), d[-1].content) for d in dialogues])
            kept = [one for one in encoded if not (one.too_long and self.encoder.too_long == "drop")]
            if not kept:
                raise UserError(
                    f"all {len(dialogues)} dialogues of the {split} split are longer than "
                    f"model.max_length={self.encoder.max_length}: raise it, or use "
                    "loader.too_long=truncate_prompt_left."
                )
            self._trees[split] = [Tree((one.ids,), 0, (one.prompt_tokens,)) for one in kept]
        return self._trees[split]

    def prompts(self, split: str, count: int) -> list[tuple[Message, ...]]:
        """The first distinct prompts of a split's dialogues."""
        found = (tuple(d[:-1]) for d in dialogues_of(self.source, split) if len(d) > 1)
        return list(dict.fromkeys(found))[:count]

    def train_dataloader(self) -> StepLoader:
        """Shuffled steps of exactly ``batch_size`` dialogues."""
        sizes = [tree.size("packed") for tree in self.trees("train")]
        return self.training_steps(lambda indices: self.step("train", indices), sizes)

    def val_dataloader(self) -> StepLoader:
        """Every validation dialogue once."""
        return self._evaluation("validation")

    def test_dataloader(self) -> StepLoader:
        """Every test dialogue once."""
        return self._evaluation("test")

    def step(self, split: str, indices: Sequence[int]) -> Step[TextBatch]:
        """The micro-batches of these dialogues."""
        trees = [self.trees(split)[i] for i in indices]
        return Step(
            tuple(
                TextBatch(rows, response_labels(rows, [trees[i].prompt_tokens[0] for i in order]))
                for rows, order in self.packing.pack(trees)
            )
        )

    def probes(self, count: int = 8) -> list[Dialogue]:
        """See :class:`StepDataModule`."""
        return [(tuple(d[:-1]), d[-1].content) for d in dialogues_of(self.source, "train")[:count]]

    def report(self) -> dict[str, Any]:
        """See :class:`StepDataModule`."""
        return {
            **self.source.report(),
            "fingerprint": self.source.fingerprint(),
            "dialogues": {split: len(trees) for split, trees in self._trees.items()},
        }

    def _evaluation(self, split: str) -> StepLoader:
        return self.evaluation_steps(lambda indices: self.step(split, indices), len(self.trees(split)))


def dialogues_of(source: PreferenceSource, split: str) -> Sequence[Sequence[Message]]:
    """A source's demonstrations, or the chosen responses of its pairs."""
    if isinstance(source, DemonstrationSource):
        return source.demonstrations(split)
    return View(source.pairs(split), change=lambda _, pair: (*pair.messages, _answer(pair.chosen)))


def response_labels(rows: Rows, prompt_tokens: Sequence[int]) -> torch.Tensor:
    """The next token where it belongs to a response, else -100; (R, T).

    Args:
        rows: packed dialogues, one branch a tree.
        prompt_tokens: how many leading tokens of each dialogue are prompt, in the order of the rows'
            responses.
    """
    label = torch.full_like(rows.input_ids_RT, -100)
    flat, tokens = label.view(-1), rows.input_ids_RT.view(-1)
    for first, last, prompt in zip(rows.first_N.tolist(), rows.last_N.tolist(), prompt_tokens, strict=True):
        # The first response token is predicted from the last prompt token, if there is one.
        begin = first + max(prompt, 1)
        flat[begin - 1 : last] = tokens[begin : last + 1]
    return label


def training_dialogues(
    source: PreferenceSource,
) -> tuple[Callable[[], Sequence[Sequence[Message]]], str]:
    """What a tokenizer made for this source is trained on, to be read where it is, and its fingerprint.

    Demonstrations where there are some: they stay the same however the labels are changed, and so do
    the tokenizer and the base model that belong to them.
    """
    if isinstance(source, DemonstrationSource):
        return lambda: source.demonstrations("train"), source.demonstrations_fingerprint()

    def both() -> Sequence[Sequence[Message]]:
        rejected: Sequence[Sequence[Message]] = View(
            source.pairs("train"), change=lambda _, pair: (_answer(pair.rejected),)
        )
        return Chain([dialogues_of(source, "train"), rejected])

    return both, source.fingerprint()


def _answer(text: str) -> Message:
    return Message("assistant", text)
