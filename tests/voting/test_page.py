import json

import numpy as np

from rlhf_rm.data.strengths import from_members
from rlhf_rm.data.types import Message, PreferencePair
from rlhf_rm.data.worth_reading import read_worth_reading, worth_reading, write_worth_reading
from rlhf_rm.voting.drawn import drawn
from rlhf_rm.voting.figures import vote_figures
from rlhf_rm.voting.page import page, text_of
from rlhf_rm.voting.summary import summarise

EVIL = "<script>alert('x')</script>"
PAIRS = [PreferencePair((Message("user", f"{EVIL} {i}"),), EVIL, "no", id=f"id {i} <b>") for i in range(40)]
STRENGTHS = from_members([p.pair_id for p in PAIRS], np.arange(40)[None] - 20.0 + np.array([[-1.0], [1.0]]))
GOLD = {"gold_chosen": np.arange(40) - 20.5, "gold_rejected": np.zeros(40)}
READ = worth_reading(STRENGTHS.mean, STRENGTHS.std, lambda row: text_of(PAIRS[row]))


def test_text_is_shown_and_never_run():
    summary = summarise(STRENGTHS, GOLD)
    figures = vote_figures(drawn(STRENGTHS, summary))
    html = page(summary, 2, READ, figures, "Vote <i>")
    assert "<script" not in html and "<i>" not in html and "<b>" not in html
    assert html.count("&lt;script&gt;") > 12 and html.count("<img ") == 3
    assert "+19.00 ± 1.00" in html and "http" not in html.split("</style>")[1]


def test_pairs_worth_reading_come_back_as_they_were_left(tmp_path):
    odd = [PreferencePair((Message("user", "a\u2028b\x85c"),), "d\r\ne", "f", id=str(i)) for i in range(3)]
    left = worth_reading(np.array([0.5, -1.0, 2.0]), None, lambda row: text_of(odd[row]), shown=2)
    found = {kind: [one.text.name for one in left if one.kind == kind] for kind in {one.kind for one in left}}
    assert found == {"weakest": ["1", "0"], "ambiguous": ["0", "1"], "strongest": ["2", "0"]}
    write_worth_reading(tmp_path, left)
    assert read_worth_reading(tmp_path) == left


def test_one_value_for_all_pairs_still_draws():
    flat = from_members(["a", "b", "c"], np.zeros((2, 3)))
    figures = vote_figures(json.loads(json.dumps(drawn(flat, summarise(flat, {})))))
    for figure in figures.values():
        figure.canvas.draw()
    bars = figures["strength"].axes[0].patches
    assert sum(bar.get_height() for bar in bars) == 3


def test_orange_bars_are_those_against_the_label():
    shown = drawn(STRENGTHS, summarise(STRENGTHS, {}))
    against, along = vote_figures(shown)["strength"].axes[0].containers
    assert sum(bar.get_height() for bar in against) == int((STRENGTHS.mean < 0).sum()) == 20
    assert sum(bar.get_height() for bar in along) == 20
