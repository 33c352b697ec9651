"""A report as one self-contained page. Every text that comes from outside is escaped: shown, never run."""

from collections.abc import Mapping, Sequence
from html import escape

from rlhf_rm.data.worth_reading import WorthReading
from rlhf_rm.html import document, picture, table
from rlhf_rm.report.inputs import slugs
from rlhf_rm.report.section import Section
from rlhf_rm.voting.page import article

OPEN = 3  # pairs of a kind that are shown at once; the others are a click away


def page(
    title: str, lead: Sequence[str], sections: Sequence[Section], drawings: Mapping[str, tuple[str, str]]
) -> str:
    """The HTML of a report.

    Args:
        title, lead: at its head; a paragraph for each text of the lead.
        sections: in this order.
        drawings: of each plot by its name, the SVG for light and for dark pages.
    """
    body = [f"<h1>{escape(title)}</h1>", *(f"<p class='lead'>{escape(one)}</p>" for one in lead)]
    anchored = dict(zip(slugs([one.title for one in sections]), sections, strict=True))
    body += [_section(one, anchor, drawings) for anchor, one in anchored.items()]
    return document(title, body, contents(anchored))


def contents(sections: Mapping[str, Section]) -> list[tuple[str, str, int]]:
    """The anchors, the headings and their levels of a table of contents; the sections are by anchor."""
    entries = []
    for anchor, one in sections.items():
        entries.append((anchor, one.title, 2))
        if one.pairs:
            entries.append((f"{anchor}_pairs", "Pairs worth reading", 3))
    return entries


def _section(section: Section, anchor: str, drawings: Mapping[str, tuple[str, str]]) -> str:
    plots = "".join(
        f"<figure>{picture(*drawings[plot.name], alt=plot.look_for)}"
        f"<figcaption>{escape(plot.look_for)}</figcaption></figure>"
        for plot in section.plots
    )
    facts = "".join(
        f"<div><dt>{escape(one.label)}</dt><dd>{escape(one.value)} "
        f"<small>{escape(one.note)}</small></dd></div>"
        for one in section.facts
    )
    tables = "".join(f"<div class='card'>{table(one.head, one.rows)}</div>" for one in section.tables)
    pairs = "".join(
        _pairs(title, [one for one in section.pairs if one.kind == kind])
        for kind, title in section.kinds.items()
    )
    if pairs:
        pairs = f"<h3 id='{anchor}_pairs'>Pairs worth reading</h3>{pairs}"
    return (
        f"<section id='{anchor}'><h2>{escape(section.title)}</h2>"
        f"<p class='lead'>{escape(section.lead)}</p>"
        f"{f'<dl class=facts>{facts}</dl>' if facts else ''}"
        f"{f'<div class=tables>{tables}</div>' if tables else ''}"
        f"{f'<div class=plots>{plots}</div>' if plots else ''}{pairs}</section>"
    )


def _pairs(title: str, pairs: Sequence[WorthReading]) -> str:
    if not pairs:
        return ""
    first, more = ("".join(article(one) for one in some) for some in (pairs[:OPEN], pairs[OPEN:]))
    rest = f"<details><summary>{len(pairs) - OPEN} more</summary>{more}</details>" if more else ""
    return f"<div class='card'><h3>{escape(title)}</h3>{first}{rest}</div>"
