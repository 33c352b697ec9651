"""Contrastive maths: closed forms, references, limits, gradients, extremes."""

import math

import numpy as np
import pytest
import torch

from rlhf_rm.functional.contrastive import (
    alignment,
    clusters_used,
    difference_items,
    info_nce,
    pair_items,
    prototype_cosines,
    sinkhorn,
    swapped_prediction,
    uniformity,
)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_items_are_both_responses_or_both_differences():
    chosen, rejected = torch.tensor([[3.0, 1.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [4.0, 0.0]])
    assert pair_items(chosen, rejected).tolist() == [[3, 1], [0, 2], [1, 1], [4, 0]]
    assert difference_items(chosen, rejected).tolist() == [[2, 0], [-4, 2], [-2, 0], [4, -2]]


@pytest.mark.parametrize(("items", "temperature"), [(2, 0.05), (8, 0.5), (5, 1.0)])
def test_info_nce_of_identical_views_and_orthogonal_negatives(items, temperature):
    views = torch.eye(items).double() * 7
    loss_N = info_nce(views, views, torch.arange(items), temperature=temperature)
    expected = math.log(1 + (items - 1) * math.exp(-1 / temperature))
    assert torch.allclose(loss_N, torch.full((items,), expected).double(), atol=1e-12)


def test_info_nce_of_collapsed_items_is_that_of_guessing():
    same = torch.ones(6, 4).double()
    assert torch.allclose(
        info_nce(same, same, torch.arange(6), temperature=0.05), torch.tensor(6.0).double().log()
    )
    zero = info_nce(torch.zeros(6, 4), torch.zeros(6, 4), torch.arange(6), temperature=0.05)
    assert torch.allclose(zero, torch.tensor(6.0).log())


def test_info_nce_takes_more_candidates_than_anchors():
    anchors, candidates = normal(3, 8), normal(7, 8, seed=1)
    own = torch.tensor([4, 5, 6])
    loss_N = info_nce(anchors, candidates, own, temperature=0.2)
    for i in range(3):
        cosines = [float(torch.cosine_similarity(anchors[i], one, dim=0)) / 0.2 for one in candidates]
        expected = -cosines[own[i]] + math.log(sum(math.exp(one) for one in cosines))
        assert loss_N[i].item() == pytest.approx(expected, abs=1e-12)


def test_a_single_item_has_no_negative():
    with pytest.raises(ValueError, match="1 candidates hold no negative"):
        info_nce(torch.ones(1, 4), torch.ones(1, 4), torch.arange(1), temperature=0.05)


def reference_codes(score, epsilon, iterations):
    """Sinkhorn–Knopp as it is written down, in float64."""
    code = np.exp(score / epsilon - (score / epsilon).max())
    for _ in range(iterations):
        code = code / code.sum(0, keepdims=True) * (len(code) / code.shape[1])
        code = code / code.sum(1, keepdims=True)
    return code


@pytest.mark.parametrize("iterations", [1, 3, 50])
def test_codes_are_those_of_the_reference_with_exact_rows(iterations):
    score = prototype_cosines(normal(32, 16), normal(10, 16, seed=1))
    code = sinkhorn(score.float(), epsilon=0.05, iterations=iterations)
    assert np.allclose(code.numpy(), reference_codes(score.numpy(), 0.05, iterations), atol=1e-6)
    assert torch.allclose(code.sum(1), torch.ones(32), atol=1e-6)


def test_after_50_iterations_both_marginals_hold():
    code = sinkhorn(prototype_cosines(normal(64, 32), normal(8, 32, seed=1)), epsilon=0.05, iterations=50)
    assert torch.allclose(code.sum(1), torch.ones(64).double(), atol=1e-6)
    assert torch.allclose(code.sum(0), torch.full((8,), 8.0).double(), atol=1e-6)


def test_codes_of_equal_scores_are_even_and_have_no_gradient():
    score = torch.zeros(6, 3, requires_grad=True)
    code = sinkhorn(score, epsilon=0.05, iterations=3)
    assert torch.allclose(code, torch.full((6, 3), 1 / 3)) and not code.requires_grad


def test_swapped_prediction_by_hand():
    first, second, first_code, second_code = torch.tensor(
        [[[0.8, 0.2]], [[0.1, 0.5]], [[0.9, 0.1]], [[0.3, 0.7]]], dtype=torch.float64
    )

    def predicted(score, code):
        exps = [math.exp(one / 0.1) for one in score]
        return -sum(q * math.log(e / sum(exps)) for q, e in zip(code, exps, strict=True))

    expected = predicted([0.8, 0.2], [0.3, 0.7]) + predicted([0.1, 0.5], [0.9, 0.1])
    loss = swapped_prediction(first, second, first_code, second_code, temperature=0.1)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_swapped_prediction_of_agreeing_one_hot_views_goes_to_0():
    score = torch.eye(4).double()
    loss = swapped_prediction(score, score, score, score, temperature=0.01)
    assert loss.max() < 1e-12


def test_alignment_and_uniformity():
    x = normal(6, 4)
    assert torch.allclose(alignment(x, 3 * x), torch.zeros(6).double(), atol=1e-12)
    assert torch.allclose(alignment(x, -x), torch.full((6,), 4.0).double())
    assert uniformity(torch.ones(5, 3)).item() == pytest.approx(0, abs=1e-6)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert uniformity(opposite).item() == pytest.approx(-8)
    assert uniformity(torch.ones(1, 3)).isnan()


def test_clusters_used_counts_as_a_perplexity():
    assert clusters_used(torch.eye(4)).item() == pytest.approx(4)
    assert clusters_used(torch.eye(4)[[1, 1, 1]]).item() == pytest.approx(1)


def test_gradients():
    x, y, prototypes = (normal(n, 5, seed=n).requires_grad_() for n in (4, 6, 3))
    own = torch.tensor([2, 3, 4, 5])
    assert torch.autograd.gradcheck(lambda x, y: info_nce(x, y, own, temperature=0.3), (x, y))
    z = normal(4, 5, seed=9).requires_grad_()

    def swav(x, z, prototypes):
        first, second = prototype_cosines(x, prototypes), prototype_cosines(z, prototypes)
        codes = [torch.softmax(normal(4, 3, seed=s), 1) for s in (1, 2)]
        return swapped_prediction(first, second, *codes, temperature=0.2)

    assert torch.autograd.gradcheck(swav, (x, z, prototypes))
    assert torch.autograd.gradcheck(alignment, (x, z))


def test_mixed_precision_does_not_round_cosines():
    near = normal(1, 64, dtype=torch.float32) + 0.05 * normal(16, 64, seed=1, dtype=torch.float32)
    views, own = near + 0.01 * normal(16, 64, seed=2, dtype=torch.float32), torch.arange(16)
    exact = prototype_cosines(near, views), info_nce(near, views, own, temperature=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = prototype_cosines(near, views), info_nce(near, views, own, temperature=0.05)
    assert all(torch.equal(*both) for both in zip(exact, mixed, strict=True))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_states_and_half_precision_stay_finite(scale, dtype):
    x, y = ((normal(8, 16, seed=s) * scale).to(dtype).requires_grad_() for s in (1, 2))
    prototypes = normal(5, 16, seed=3, dtype=torch.float32)
    first, second = prototype_cosines(x, prototypes), prototype_cosines(y, prototypes)
    codes = [sinkhorn(one * 1e4, epsilon=0.05, iterations=3) for one in (first, second)]
    loss = info_nce(x, y, torch.arange(8), temperature=0.05) + swapped_prediction(
        first, second, *codes, temperature=0.1
    )
    loss.sum().backward()
    assert loss.dtype == torch.float32 and loss.isfinite().all()
    assert x.grad.isfinite().all() and all(code.isfinite().all() for code in codes)
