"""Pairwise accuracy: ties apart, uneven batches."""

import torch

from rlhf_rm.metrics.accuracy import PairwiseAccuracy


def test_a_tie_is_not_correct_and_is_counted() -> None:
    metric = PairwiseAccuracy()
    metric.update(torch.tensor([1.0, 0.0, 2.0, 2.0]), torch.tensor([0.0, 1.0, 2.0, 1.0]))
    assert {name: value.item() for name, value in metric.compute().items()} == {"accuracy": 0.5, "ties": 1}


def test_every_pair_counts_alike_in_uneven_batches() -> None:
    chosen, rejected = torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 0.0, 1.0])
    metric = PairwiseAccuracy()
    metric.update(chosen[:3], rejected[:3])
    metric.update(chosen[3:], rejected[3:])
    assert metric.compute()["accuracy"].item() == 0.75  # the mean of the batches' means is 0.5
