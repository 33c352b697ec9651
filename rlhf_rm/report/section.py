"""Of what a report consists: sections with tables, figures, and pairs to be read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rlhf_rm.data.worth_reading import WorthReading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plot:
    """A figure, and what it is drawn from.

    Args:
        name: of its PNG, and of its numbers in ``report.json``.
        look_for: a sentence or two on what to look for.
        numbers: all that it shows, as JSON holds it.
        draw: the figure of these numbers.
    """

    name: str
    look_for: str
    numbers: Any
    draw: Callable[[Any], "Figure"]

    def figure(self) -> "Figure":
        """Drawn."""
        return self.draw(self.numbers)


@dataclass(frozen=True)
class Table:
    """Rows of text under a heading for each column; the first cell of a row names it."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Fact:
    """A number to be seen first: what it is, its value, and below it a note such as its interval."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        title: its heading.
        lead: a sentence or two below it.
        facts, tables, plots: in this order.
        pairs: texts to be read, and ``kinds`` the heading of each kind of them.
    """

    title: str
    lead: str
    facts: Sequence[Fact] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    pairs: Sequence[WorthReading] = ()
    kinds: dict[str, str] = field(default_factory=dict)


def on_axes(draw: Callable[["Axes", Any], None]) -> Callable[[Any], "Figure"]:
    """A figure of its own for what is drawn on given axes."""
    from rlhf_rm.plots.style import new_figure

    def figure(numbers: Any) -> "Figure":
        made = new_figure()
        draw(made.subplots(), numbers)
        return made

    return figure
