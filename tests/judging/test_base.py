"""From verdicts to shares."""

import pytest
import torch

from rlhf_rm.judging.base import LOSE, NO_ANSWER, TIE, WIN, by_score, summarise


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


def test_comparisons_of_one_prompt_are_not_independent():
    verdicts = [WIN, LOSE] * 50
    many = summarise(verdicts, [str(i) for i in range(100)])["win"]["ci95"]
    few = summarise([WIN] * 50 + [LOSE] * 50, [str(i // 25) for i in range(100)])["win"]["ci95"]
    assert few[1] - few[0] > 2 * (many[1] - many[0])
    assert summarise([WIN], ["one"])["win"]["ci95"] is None
