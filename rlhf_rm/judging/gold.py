"""The judge that knows: the synthetic world's true reward."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from rlhf_rm.data.types import PreferenceSource
from rlhf_rm.data.world.source import WorldSource
from rlhf_rm.errors import UserError
from rlhf_rm.judging.base import Comparison, by_score


class GoldJudge:
    """Judges by gold; equal gold is a tie.

    Args:
        source: the synthetic world that the prompts are of.
        tie: gold that is at most this far apart is a tie too.

    Raises:
        UserError: the source is no synthetic world.
    """

    def __init__(self, source: PreferenceSource, tie: float) -> None:
        if not isinstance(source, WorldSource):
            raise UserError(
                f"judge=gold knows the truth of data=synthetic only, and not of {source.name} data."
            )
        self.source, self.tie = source, tie

    def verdicts(
        self, comparisons: Sequence[Comparison], advance: Callable[[int], Any] = lambda done: None
    ) -> list[str]:
        """See :class:`~rlhf_rm.judging.base.Judge`.

        Raises:
            UserError: a prompt that is not of this world.
        """
        differences = []
        for one in comparisons:
            self.source.best_response(one.messages)  # knows its own prompts
            a, b = (self.source.gold(one.messages, text) for text in (one.a, one.b))
            differences.append(a - b)
            advance(1)
        return by_score(torch.tensor(differences), self.tie)
