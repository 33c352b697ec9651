"""What is judged, and what a judge says.

Shape legend: C comparisons.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from rlhf_rm.data.types import Message
from rlhf_rm.metrics.bootstrap import bootstrap_ci

WIN, TIE, LOSE, NO_ANSWER = "win", "tie", "lose", "no_answer"
VERDICTS = (WIN, TIE, LOSE, NO_ANSWER)
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two responses to one prompt, ``a`` of the first file and ``b`` of the second."""

    messages: tuple[Message, ...]
    a: str
    b: str


class Judge(Protocol):
    """Says of each comparison whether ``a`` wins, ties or loses, or that there is no answer."""

    def verdicts(
        self, comparisons: Sequence[Comparison], advance: Callable[[int], Any] = lambda done: None
    ) -> list[str]:
        """One of :data:`VERDICTS` for each comparison.

        Args:
            comparisons: what to judge.
            advance: called with the number of comparisons done, for a progress bar.
        """
        ...


def judged(
    judge: Judge, comparisons: Sequence[Comparison], advance: Callable[[int], Any] = lambda done: None
) -> list[str]:
    """The verdicts of a judge, which is not asked about two equal responses: they tie.

    A judge would hold them apart by the place of each, or by a last bit of their rewards.

    Args:
        judge: who decides on all others.
        comparisons, advance: see :meth:`Judge.verdicts`.
    """
    different = [one for one in comparisons if one.a != one.b]
    advance(len(comparisons) - len(different))
    said = iter(judge.verdicts(different, advance) if different else [])
    return [TIE if one.a == one.b else next(said) for one in comparisons]


def by_score(difference_C: Tensor, tie: float) -> list[str]:
    """Verdicts of scores: the score of ``a`` less that of ``b``, (C,); at most ``tie`` apart is a tie."""
    return [TIE if abs(one) <= tie else WIN if one > 0 else LOSE for one in difference_C.double().tolist()]


def summarise(verdicts: Sequence[str], prompts: Sequence[str]) -> dict[str, Any]:
    """Shares of all comparisons with 95 % intervals over prompts: see :func:`bootstrap_ci`.

    A comparison without an answer counts in every denominator, and is nobody's win.

    Args:
        verdicts: of the comparisons.
        prompts: the name of each comparison's prompt.

    Returns:
        ``comparisons``, ``prompts``; for each of :data:`VERDICTS` its ``share``, ``ci95`` and ``count``;
        and ``win_minus_lose`` with its ``ci95``, both as shares.
    """
    shares: dict[str, Any] = {"comparisons": len(verdicts), "prompts": len(set(prompts))}
    for name in VERDICTS:
        value_C = torch.tensor([one == name for one in verdicts]).double()
        shares[name] = {"count": int(value_C.sum()), **_share(value_C, prompts)}
    sign = {WIN: 1.0, LOSE: -1.0}
    value_C = torch.tensor([sign.get(one, 0.0) for one in verdicts]).double()
    shares["win_minus_lose"] = _share(value_C, prompts, ends=(-1.0, 1.0))
    return shares


def _share(value_C: Tensor, prompts: Sequence[str], ends: tuple[float, float] = (0.0, 1.0)) -> dict[str, Any]:
    interval = bootstrap_ci(value_C, prompts, resamples=RESAMPLES, seed=0, ends=ends)
    return {"share": float(value_C.mean()), "ci95": interval}
