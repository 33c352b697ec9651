"""Calibration against values worked out by hand."""

import math

import pytest
import torch

from rlhf_rm.metrics.calibration import (
    BrierScore,
    CalibrationError,
    brier_score,
    expected_calibration_error,
    reliability,
)


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_error_by_hand() -> None:
    # Bins of width 0.1 over [0.5, 1]: one pair at 0.55 (right), three at 0.81 (two right).
    difference = torch.tensor([logit(0.55), logit(0.81), logit(0.81), -logit(0.81)], dtype=torch.float64)
    bins = reliability(difference, bins=5)
    assert bins.edges.tolist() == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert bins.pairs.tolist() == [1, 0, 0, 3, 0]
    assert bins.confidence[[0, 3]].tolist() == pytest.approx([0.55, 0.81])
    assert bins.accuracy[[0, 3]].tolist() == pytest.approx([1.0, 2 / 3])
    assert bins.accuracy[1].isnan()
    expected = (1 * (1 - 0.55) + 3 * (0.81 - 2 / 3)) / 4
    assert expected_calibration_error(difference, bins=5).item() == pytest.approx(expected)


def test_fifteen_bins_by_default_and_full_confidence_in_the_last() -> None:
    bins = reliability(torch.tensor([1e4, -1e4, 0.0]))
    assert bins.pairs.tolist() == [1] + [0] * 13 + [2]


def test_limits() -> None:
    ties = torch.zeros(10)
    assert expected_calibration_error(ties).item() == 0
    assert brier_score(ties).item() == 0.25
    sure = torch.full((10,), 1e4)
    assert (expected_calibration_error(sure).item(), brier_score(sure).item()) == (0, 0)
    assert (expected_calibration_error(-sure).item(), brier_score(-sure).item()) == (1, 1)


def test_brier_by_hand() -> None:
    difference = torch.tensor([logit(0.9), logit(0.3)], dtype=torch.float64)
    assert brier_score(difference).item() == pytest.approx((0.01 + 0.49) / 2)


def test_labels_drawn_from_the_model_are_calibrated() -> None:
    generator = torch.Generator().manual_seed(0)
    size = torch.rand(100_000, generator=generator, dtype=torch.float64) * 4
    right = torch.rand(100_000, generator=generator, dtype=torch.float64) < torch.sigmoid(size)
    difference = torch.where(right, size, -size)
    assert expected_calibration_error(difference) < 0.01
    assert expected_calibration_error(3 * difference) > 0.05


def test_uneven_batches_are_one_batch() -> None:
    chosen, rejected = torch.randn(2, 101, generator=torch.Generator().manual_seed(0))
    calibration, brier = CalibrationError(), BrierScore()
    for part in (slice(0, 64), slice(64, 100), slice(100, None)):
        calibration.update(chosen[part], rejected[part])
        brier.update(chosen[part], rejected[part])
    assert torch.allclose(calibration.compute(), expected_calibration_error(chosen - rejected), atol=1e-6)
    assert torch.allclose(brier.compute(), brier_score(chosen - rejected), atol=1e-6)


def test_half_precision_rewards_are_widened() -> None:
    chosen, rejected = torch.tensor([8.0]).bfloat16(), torch.tensor([7.0]).bfloat16()
    metric = CalibrationError()
    metric.update(chosen, rejected)
    assert metric.compute().item() == pytest.approx(1 - 1 / (1 + math.exp(-1)), abs=1e-6)
