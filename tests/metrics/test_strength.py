"""Accuracy by quantile of strength."""

import torch

from rlhf_rm.metrics.strength import AccuracyByStrength, StrengthBin, accuracy_by_strength


def test_bins_hold_equally_many_pairs_from_weak_to_strong() -> None:
    strength = torch.tensor([0.4, 0.1, 0.3, 0.2, 0.6, 0.5])
    correct = torch.tensor([True, False, False, True, True, True])
    assert accuracy_by_strength(correct, strength.double(), bins=3) == [
        StrengthBin((0, 1 / 3), (strength[1].item(), strength[3].item()), 2, 0.5),
        StrengthBin((1 / 3, 2 / 3), (strength[2].item(), strength[0].item()), 2, 0.5),
        StrengthBin((2 / 3, 1), (strength[5].item(), strength[4].item()), 2, 1.0),
    ]


def test_pairs_of_equal_strength_stay_together() -> None:
    table = accuracy_by_strength(torch.tensor([True, False] * 10), torch.zeros(20))
    assert [row.pairs for row in table] == [0] * 5 + [20] + [0] * 4
    assert (table[5].accuracy, table[0].accuracy, table[0].strengths) == (0.5, None, None)


def test_counts_add_up_for_any_number_of_pairs() -> None:
    for pairs in (1, 7, 23):
        table = accuracy_by_strength(torch.ones(pairs, dtype=torch.bool), torch.arange(pairs))
        counts = [row.pairs for row in table]
        assert sum(counts) == pairs
        assert max(counts) - min(counts) <= 1


def test_uneven_batches_are_one_batch() -> None:
    chosen, rejected, strength = torch.randn(3, 37, generator=torch.Generator().manual_seed(0))
    metric = AccuracyByStrength(bins=4)
    for part in (slice(0, 30), slice(30, None)):
        metric.update(chosen[part], rejected[part], strength[part])
    table = accuracy_by_strength(chosen > rejected, strength, bins=4)
    assert metric.compute()["pairs"].tolist() == [row.pairs for row in table]
    assert torch.allclose(metric.compute()["accuracy"], torch.tensor([row.accuracy or 0.0 for row in table]))
