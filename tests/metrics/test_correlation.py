"""Spearman's correlation with ties."""

import pytest
import torch

from rlhf_rm.metrics.correlation import SpearmanLength, average_ranks, spearman


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert average_ranks(torch.tensor([30, 10, 20, 20])).tolist() == [4, 1, 2.5, 2.5]


def test_by_hand() -> None:
    # Without ties: 1 - 6 Σd² / (n (n² - 1)), here with d = 0, 1, -1, 1, -1.
    x = torch.tensor([1, 2, 3, 4, 5])
    y = torch.tensor([1.0, 3.0, 2.0, 50.0, 4.0])
    assert spearman(x, y) == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert spearman(x, y.exp()) == pytest.approx(spearman(x, y))
    # With ties, Pearson's correlation of ranks [1, 2.5, 2.5, 4] and [1, 2, 3, 4]: 4.5 / √(4.5 · 5).
    assert spearman(torch.tensor([1, 2, 2, 3]), torch.tensor([1, 2, 3, 4])) == pytest.approx(
        4.5 / (4.5 * 5) ** 0.5
    )


def test_limits() -> None:
    x = torch.arange(50)
    assert spearman(x, x.double() ** 3) == pytest.approx(1)
    assert spearman(x, -x) == pytest.approx(-1)


@pytest.mark.parametrize("x", [[], [1.0], [2.0, 2.0, 2.0]])
def test_none_where_it_does_not_exist(x: list[float]) -> None:
    assert spearman(torch.tensor(x), torch.arange(len(x))) is None


def test_uneven_batches_are_one_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    reward, tokens = torch.randn(41, generator=generator), torch.randint(1, 9, (41,), generator=generator)
    metric = SpearmanLength()
    for part in (slice(0, 32), slice(32, None)):
        metric.update(reward[part], tokens[part])
    assert metric.compute().item() == pytest.approx(spearman(reward, tokens))


def test_the_metric_is_nan_for_constant_rewards() -> None:
    metric = SpearmanLength()
    metric.update(torch.zeros(4), torch.arange(4))
    assert metric.compute().isnan()
