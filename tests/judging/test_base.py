"""From verdicts to shares."""

import pytest
import torch

from rlhf_rm.data.types import Message
from rlhf_rm.judging.base import LOSE, NO_ANSWER, TIE, WIN, Comparison, by_score, judged, summarise


class FavoursA:
    """A judge that prefers whatever comes first, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def verdicts(self, comparisons, advance=lambda done: None):
        self.asked += comparisons
        advance(len(comparisons))
        return [WIN] * len(comparisons)


def test_no_judge_is_asked_about_equal_responses():
    judge, done = FavoursA(), []
    prompt = (Message("user", "q"),)
    some = [Comparison(prompt, *pair) for pair in (("x", "y"), ("x", "x"), ("y", "x"), ("", ""))]
    assert judged(judge, some, done.append) == [WIN, TIE, WIN, TIE]
    assert judge.asked == [some[0], some[2]] and sum(done) == 4
    assert judged(judge, [some[1]]) == [TIE] and len(judge.asked) == 2


def test_scores_that_are_near_are_ties():
    assert by_score(torch.tensor([0.5, -0.5, 0.05, -0.09, 0.0]), 0.1) == [WIN, LOSE, TIE, TIE, TIE]
    assert by_score(torch.tensor([1e-9, 0.0]).double(), 0.0) == [WIN, TIE]


def test_shares_of_everything_with_intervals_over_prompts():
    verdicts = [WIN] * 60 + [TIE] * 20 + [LOSE] * 15 + [NO_ANSWER] * 5
    told = summarise(verdicts, [str(i) for i in range(100)])
    assert [told[name]["share"] for name in (WIN, TIE, LOSE, NO_ANSWER)] == [0.6, 0.2, 0.15, 0.05]
    assert told["win_minus_lose"]["share"] == pytest.approx(0.45)
    low, high = told["win_minus_lose"]["ci95"]
    assert 0.28 < low < 0.36 and 0.54 < high < 0.62  # 0.45 ± 1.96 · 0.0740
    assert told["comparisons"] == told["prompts"] == 100


def test_a_share_of_none_or_all_is_not_known_to_a_point():
    told = summarise([WIN] * 5, list("abcde"))
    low, high = told["win"]["ci95"]
    assert high == 1 and low == pytest.approx(0.025 ** (1 / 5))
    assert told["lose"]["ci95"] == told["tie"]["ci95"] == pytest.approx((0, 1 - low))
    assert told["win_minus_lose"]["ci95"] == pytest.approx((2 * low - 1, 1))
    assert summarise([WIN] * 5, ["a"] * 5)["win"]["ci95"] is None


def test_comparisons_of_one_prompt_are_not_independent():
    verdicts = [WIN, LOSE] * 50
    many = summarise(verdicts, [str(i) for i in range(100)])["win"]["ci95"]
    few = summarise([WIN] * 50 + [LOSE] * 50, [str(i // 25) for i in range(100)])["win"]["ci95"]
    assert few[1] - few[0] > 2 * (many[1] - many[0])
    assert summarise([WIN], ["one"])["win"]["ci95"] is None
