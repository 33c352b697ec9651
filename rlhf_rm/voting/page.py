"""A vote as one self-contained page: its figures, and the pairs worth reading, whose text is escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from rlhf_rm.data.types import PreferencePair
from rlhf_rm.data.worth_reading import AMBIGUOUS, STRONGEST, WEAKEST, Text, WorthReading
from rlhf_rm.html import document, picture, reading
from rlhf_rm.plots.style import palettes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {
    WEAKEST: "The weakest: most against the label",
    AMBIGUOUS: "The most ambiguous",
    STRONGEST: "The strongest",
}


def page(
    summary: Mapping[str, Any],
    members: int,
    pairs: Sequence[WorthReading],
    figures: Mapping[str, "Figure"],
    title: str,
) -> str:
    """The HTML of a vote.

    Args:
        summary: see :func:`rlhf_rm.voting.summary.summarise`.
        members: how many voted.
        pairs: see :func:`rlhf_rm.data.worth_reading.worth_reading`.
        figures: by name.
        title: what was voted on.
    """
    shown = [f"<figure>{picture(*palettes(figure), alt=name)}</figure>" for name, figure in figures.items()]
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p class='lead'>{summary['pairs']:,} pairs, {members} members; "
        f"{summary['negative']:.1%} of the labels go against the vote.</p>",
        f"<div class='plots'>{''.join(shown)}</div>",
    ]
    for kind, name in TITLES.items():
        texts = "".join(article(one) for one in pairs if one.kind == kind)
        body.append(f"<h2>{name}</h2><div class='card'>{texts}</div>")
    return document(title, body)


def article(pair: WorthReading) -> str:
    """The HTML of one pair."""
    spread = "" if pair.std is None else f" ± {pair.std:.2f}"
    texts = {"prompt": pair.text.prompt, "chosen": pair.text.chosen, "rejected": pair.text.rejected}
    return reading(f"{pair.difference:+.2f}{spread} · {pair.text.name}", texts)


def text_of(pair: PreferencePair) -> Text:
    """A pair of the data as text."""
    prompt = "\n\n".join(f"{message.role}: {message.content}" for message in pair.messages)
    return Text(pair.id or pair.pair_id[:16], prompt, pair.chosen, pair.rejected)
