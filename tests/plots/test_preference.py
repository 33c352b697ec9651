"""Figures show the numbers that they are given, degenerate ones too."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf_rm.metrics.drawn import accuracy_by_length, margin_histogram, reliability_bins
from rlhf_rm.plots import preference


def texts(axes: Any) -> str:
    return " ".join(text.get_text() for text in axes.texts)


def pairs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    chosen, rejected = torch.randn(2, 200, generator=generator)
    return chosen, rejected, *torch.randint(1, 50, (2, 200), generator=generator)


def test_reliability_diagram_counts_every_pair(tmp_path: Path) -> None:
    chosen, rejected, _, _ = pairs()
    drawn = json.loads(json.dumps(reliability_bins(chosen, rejected)))
    figure = preference.reliability_diagram(drawn, "a set")
    top, bottom = figure.axes
    assert top.get_title(loc="left") == "a set"
    assert sum(bar.get_height() for bar in bottom.patches) == 200
    assert f"expected calibration error {drawn['ece']:.3f}" in texts(top)
    figure.savefig(tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").stat().st_size > 10_000


def test_margin_histogram_parts_right_wrong_and_tied() -> None:
    chosen, rejected, _, _ = pairs()
    chosen[:7] = rejected[:7]
    drawn = json.loads(json.dumps(margin_histogram(chosen, rejected)))
    (axes,) = preference.margin_histogram(drawn, "a set").axes
    heights = {bars.get_label(): sum(bar.get_height() for bar in bars) for bars in axes.containers}
    wrong = int((chosen < rejected).sum())
    assert heights == {"ranked as labelled": 193 - wrong, "ranked against the label": wrong, "tied": 7}
    assert "7 ties" in texts(axes)


def test_no_bar_of_the_margin_histogram_spans_zero() -> None:
    chosen, rejected, _, _ = pairs()
    drawn = margin_histogram(chosen, rejected)
    assert 0 in drawn["edges"] and sum(map(sum, (drawn[part] for part in ("right", "wrong", "tied")))) == 200
    ends = [end for end, wrong in zip(drawn["edges"][1:], drawn["wrong"], strict=True) if wrong]
    assert max(ends) <= 0
    starts = [start for start, right in zip(drawn["edges"], drawn["right"], strict=False) if right]
    assert min(starts) >= 0


def test_accuracy_by_length_difference_shows_a_length_bias() -> None:
    _, _, chosen_tokens, rejected_tokens = pairs()
    drawn = accuracy_by_length(chosen_tokens.float(), rejected_tokens.float(), chosen_tokens, rejected_tokens)
    assert sum(one["pairs"] for one in drawn["bins"]) == 200
    (axes,) = preference.accuracy_by_length(json.loads(json.dumps(drawn)), "").axes
    line = next(line for line in axes.lines if len(line.get_xdata()) > 2)
    difference, accuracy = line.get_xdata(), line.get_ydata()
    assert list(difference) == sorted(difference)
    assert (accuracy[0], accuracy[-1]) == (0, 1)


@pytest.mark.parametrize("shift", [0.0, 1.0, -1.0])
def test_degenerate_rewards_are_drawn_too(shift: float, tmp_path: Path) -> None:
    zero, tokens = torch.zeros(3), torch.ones(3, dtype=torch.long)
    for figure in (
        preference.reliability_diagram(reliability_bins(zero + shift, zero), ""),
        preference.margin_histogram(margin_histogram(zero + shift, zero), ""),
        preference.accuracy_by_length(accuracy_by_length(zero + shift, zero, tokens, tokens), ""),
    ):
        figure.savefig(tmp_path / "figure.png")
