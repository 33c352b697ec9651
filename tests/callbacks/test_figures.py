"""Figures show the numbers that they are given, degenerate ones too."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf_rm.callbacks.figures import (
    accuracy_by_length_difference,
    reliability_diagram,
    reward_margin_histogram,
)


def texts(axes: Any) -> str:
    return " ".join(text.get_text() for text in axes.texts)


def pairs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    chosen, rejected = torch.randn(2, 200, generator=generator)
    return chosen, rejected, *torch.randint(1, 50, (2, 200), generator=generator)


def test_reliability_diagram_counts_every_pair(tmp_path: Path) -> None:
    chosen, rejected, _, _ = pairs()
    figure = reliability_diagram(chosen, rejected, title="a set")
    top, bottom = figure.axes
    assert top.get_title(loc="left") == "a set"
    assert sum(bar.get_height() for bar in bottom.patches) == 200
    assert "expected calibration error" in texts(top)
    figure.savefig(tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").stat().st_size > 10_000


def test_margin_histogram_parts_right_wrong_and_tied() -> None:
    chosen, rejected, _, _ = pairs()
    chosen[:7] = rejected[:7]
    (axes,) = reward_margin_histogram(chosen, rejected, title="a set").axes
    heights = {}
    for bars in axes.containers:
        heights[bars.patches[0].get_label()] = sum(bar.get_height() for bar in bars)
    wrong = int((chosen < rejected).sum())
    assert heights == {"ranked as labelled": 193 - wrong, "ranked against the label": wrong, "tied": 7}
    assert "7 ties" in texts(axes)


def test_no_bar_of_the_margin_histogram_spans_zero() -> None:
    chosen, rejected, _, _ = pairs()
    (axes,) = reward_margin_histogram(chosen, rejected, title="").axes
    wrong = next(
        bars for bars in axes.containers if bars.patches[0].get_label() == "ranked against the label"
    )
    assert max(bar.get_x() + bar.get_width() for bar in wrong if bar.get_height()) <= 0


def test_accuracy_by_length_difference_shows_a_length_bias() -> None:
    _, _, chosen_tokens, rejected_tokens = pairs()
    (axes,) = accuracy_by_length_difference(
        chosen_tokens.float(), rejected_tokens.float(), chosen_tokens, rejected_tokens, title=""
    ).axes
    line = next(line for line in axes.lines if len(line.get_xdata()) > 2)
    difference, accuracy = line.get_xdata(), line.get_ydata()
    assert list(difference) == sorted(difference)
    assert (accuracy[0], accuracy[-1]) == (0, 1)


@pytest.mark.parametrize("shift", [0.0, 1.0, -1.0])
def test_degenerate_rewards_are_drawn_too(shift: float, tmp_path: Path) -> None:
    zero, tokens = torch.zeros(3), torch.ones(3, dtype=torch.long)
    for figure in (
        reliability_diagram(zero + shift, zero, title=""),
        reward_margin_histogram(zero + shift, zero, title=""),
        accuracy_by_length_difference(zero + shift, zero, tokens, tokens, title=""),
    ):
        figure.savefig(tmp_path / "figure.png")
