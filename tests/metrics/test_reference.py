import numpy as np

from rlhf_rm.metrics.reference import reference_accuracy, reference_labels


def test_gold_and_gpt4_are_references_and_silence_is_neither():
    gold = {"gold_chosen": np.array([1.0, 0.0, 2.0, np.nan]), "gold_rejected": np.array([0.0, 1.0, 2.0, 0.0])}
    name, right = reference_labels(gold)
    assert name == "gold" and right[:2].tolist() == [1.0, 0.0] and np.isnan(right[2:]).all()
    name, right = reference_labels({"gpt4_label": np.array([1.0, np.nan, 0.0])})
    assert name == "gpt4" and right[0] == 1 and np.isnan(right[1])
    assert reference_labels({"other": np.zeros(3)}) is None


def test_accuracy_is_taken_where_something_is_known():
    right = np.array([1.0, 0.0, 1.0, np.nan, 0.0])
    assert reference_accuracy(np.array([0.5, -0.5, 0.0, 1.0, 2.0]), right) == 0.5
    assert reference_accuracy(np.zeros(2), np.full(2, np.nan)) is None
