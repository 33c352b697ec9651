import numpy as np

from rlhf_rm.data.strengths import from_members
from rlhf_rm.data.types import Message, PreferencePair
from rlhf_rm.voting.figures import vote_figures
from rlhf_rm.voting.page import page, worth_reading
from rlhf_rm.voting.summary import summarise

EVIL = "<script>alert('x')</script>"
PAIRS = [PreferencePair((Message("user", f"{EVIL} {i}"),), EVIL, "no", id=f"id {i} <b>") for i in range(40)]
STRENGTHS = from_members([p.pair_id for p in PAIRS], np.arange(40)[None] - 20.0 + np.array([[-1.0], [1.0]]))
GOLD = {"gold_chosen": np.arange(40) - 20.5, "gold_rejected": np.zeros(40)}


def test_the_weakest_the_most_ambiguous_and_the_strongest_are_shown():
    weakest, ambiguous, strongest = worth_reading(STRENGTHS).values()
    assert weakest[:2] == [0, 1] and ambiguous[0] == 20 and strongest[:2] == [39, 38]


def test_text_is_shown_and_never_run():
    summary = summarise(STRENGTHS, GOLD)
    html = page(STRENGTHS, PAIRS, summary, vote_figures(STRENGTHS, summary), "Vote <i>")
    assert "<script" not in html and "<i>" not in html and "<b>" not in html
    assert html.count("&lt;script&gt;") > 12 and html.count("data:image/png;base64,") == 3
    assert "+19.00 ± 1.00" in html and "http" not in html.split("</style>")[1].replace("data:image", "")


def test_one_value_for_all_pairs_still_draws():
    flat = from_members(["a", "b", "c"], np.zeros((2, 3)))
    figures = vote_figures(flat, summarise(flat, {}))
    for figure in figures.values():
        figure.canvas.draw()
    bars = figures["strength"].axes[0].patches
    assert sum(bar.get_height() for bar in bars) == 3
