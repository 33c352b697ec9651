"""The pairs of a vote that are worth reading, as one self-contained page; the data's text is escaped."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from rlhf_rm.data.strengths import Strengths
from rlhf_rm.data.types import PreferencePair
from rlhf_rm.html import document

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 12


def page(
    strengths: Strengths,
    pairs: Sequence[PreferencePair],
    summary: Mapping[str, Any],
    figures: Mapping[str, "Figure"],
    title: str,
) -> str:
    """The HTML of a vote.

    Args:
        strengths: of all pairs.
        pairs: those that :func:`worth_reading` names, at least.
        summary: see :func:`rlhf_rm.voting.summary.summarise`.
        figures: by name.
        title: what was voted on.
    """
    by_id = {pair.pair_id: pair for pair in pairs}
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p class='lead'>{len(strengths):,} pairs, {len(strengths.members_MB)} members; "
        f"{summary['negative']:.1%} of the labels go against the vote.</p>",
        *(_image(name, figure) for name, figure in figures.items()),
    ]
    for name, rows in worth_reading(strengths).items():
        shown = "".join(_pair(strengths, row, by_id[strengths.pair_id[row]]) for row in rows)
        body.append(f"<h2>{name}</h2><section>{shown}</section>")
    return document(title, body)


def worth_reading(strengths: Strengths) -> dict[str, list[int]]:
    """Rows of the weakest, the most ambiguous (mean nearest to 0) and the strongest pairs."""
    order = np.argsort(strengths.mean, kind="stable")
    near = np.argsort(np.abs(strengths.mean), kind="stable")
    return {
        "The weakest: most against the label": order[:SHOWN].tolist(),
        "The most ambiguous": near[:SHOWN].tolist(),
        "The strongest": order[::-1][:SHOWN].tolist(),
    }


def _pair(strengths: Strengths, row: int, pair: PreferencePair) -> str:
    texts = {
        "prompt": "\n\n".join(f"{message.role}: {message.content}" for message in pair.messages),
        "chosen": pair.chosen,
        "rejected": pair.rejected,
    }
    shown = "".join(
        f"<dt>{name}</dt><dd>{escape(text) or '<em>empty</em>'}</dd>" for name, text in texts.items()
    )
    strength = f"{strengths.mean[row]:+.2f} ± {strengths.std[row]:.2f}"
    return f"<article><h4>{strength} · {escape(pair.id or pair.pair_id[:16])}</h4><dl>{shown}</dl></article>"


def _image(name: str, figure: "Figure") -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"<img alt='{escape(name)}' src='data:image/png;base64,{data}'>"
