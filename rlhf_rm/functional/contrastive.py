"""Contrastive losses on the states that a reward model reads, item by item.

Source: "Secrets of RLHF in Large Language Models Part II: Reward Modeling" (arXiv 2401.06080), section 3.

Shape legend: B preference pairs, N items of one view, M candidates (the items of all ranks), D hidden size,
K prototypes. Losses are in nats. Half precision is widened to float32 first.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def pair_items(chosen_BD: Tensor, rejected_BD: Tensor) -> Tensor:
    """The set of pairs: the states of both responses of each pair, (2B, D), the chosen ones first."""
    return torch.cat([_widen(chosen_BD), _widen(rejected_BD)])


def difference_items(chosen_BD: Tensor, rejected_BD: Tensor) -> Tensor:
    """The set of differences: chosen − rejected of each pair and its opposite, (2B, D)."""
    difference_BD = _widen(chosen_BD) - _widen(rejected_BD)
    return torch.cat([difference_BD, -difference_BD])


def info_nce(anchor_ND: Tensor, candidate_MD: Tensor, positive_N: Tensor, *, temperature: float) -> Tensor:
    """SimCSE's loss: how surely each item finds its other view among all items, (N,).

    −log of exp(cos(h_i, h_i⁺) / τ) over the sum of exp(cos(h_i, h_j⁺) / τ) over all j (Gao et al. 2021,
    arXiv 2104.08821, equation 4). Between 0 and log M + 2 / τ.

    Args:
        anchor_ND: one view of the items.
        candidate_MD: the other view, of these items and of others, which are the negatives.
        positive_N: which candidate is each item's own.
        temperature: τ, above 0.

    Raises:
        ValueError: there are no negatives.
    """
    if len(candidate_MD) < 2:
        raise ValueError(
            f"{len(candidate_MD)} candidates hold no negative: a contrast takes 2 items or more."
        )
    cosine_NM = _cosines(anchor_ND, candidate_MD)
    return F.cross_entropy(cosine_NM / temperature, positive_N, reduction="none")


def prototype_cosines(state_ND: Tensor, prototype_KD: Tensor) -> Tensor:
    """Cosine of each item and each prototype, (N, K)."""
    return _cosines(state_ND, prototype_KD)


@torch.no_grad()
def sinkhorn(score_NK: Tensor, *, epsilon: float, iterations: int) -> Tensor:
    """Soft codes by Sinkhorn–Knopp: each item's share in each prototype, (N, K), without gradient.

    Of all codes that spread the items evenly over the prototypes, those nearest to exp(score / ε) (Caron
    et al. 2020, arXiv 2006.09882, equation 3). Rows sum to 1 exactly, columns to N / K the better the more
    iterations. Computed on logarithms, so that no score overflows.

    Args:
        score_NK: of each item and prototype.
        epsilon: ε, above 0: the smaller, the harder the codes.
        iterations: at least 1.
    """
    items, prototypes = score_NK.shape
    log_NK = _widen(score_NK) / epsilon
    share = torch.tensor(items / prototypes, dtype=log_NK.dtype, device=log_NK.device).log()
    for _ in range(iterations):
        log_NK = log_NK - log_NK.logsumexp(0, keepdim=True) + share
        log_NK = log_NK - log_NK.logsumexp(1, keepdim=True)
    return log_NK.exp()


def swapped_prediction(
    first_NK: Tensor, second_NK: Tensor, first_code_NK: Tensor, second_code_NK: Tensor, *, temperature: float
) -> Tensor:
    """SwAV's loss: each view predicts the other view's code, (N,).

    ℓ(z_1, q_2) + ℓ(z_2, q_1) with ℓ(z, q) = −Σ_k q_k log softmax(z / τ)_k (Caron et al. 2020, equations 1
    and 2).

    Args:
        first_NK, second_NK: cosines of the two views' items with the prototypes.
        first_code_NK, second_code_NK: their codes; see :func:`sinkhorn`.
        temperature: τ, above 0.
    """
    first_log_NK = F.log_softmax(_widen(first_NK) / temperature, dim=1)
    second_log_NK = F.log_softmax(_widen(second_NK) / temperature, dim=1)
    return -(second_code_NK * first_log_NK + first_code_NK * second_log_NK).sum(1)


def alignment(first_ND: Tensor, second_ND: Tensor) -> Tensor:
    """Squared distance of the two views of each item on the unit sphere, (N,): 0 at best, 4 at most.

    Source: Wang and Isola 2020 (arXiv 2005.10242).
    """
    return (F.normalize(_widen(first_ND), dim=1) - F.normalize(_widen(second_ND), dim=1)).pow(2).sum(1)


def uniformity(state_ND: Tensor) -> Tensor:
    """Log of the mean of exp(−2 · squared distance) over all pairs of items on the unit sphere.

    0 where all items are one, the lower the more evenly they are spread (Wang and Isola 2020). NaN of
    fewer than two items.
    """
    if len(state_ND) < 2:
        return torch.tensor(float("nan"))
    return torch.pdist(F.normalize(_widen(state_ND), dim=1)).pow(2).mul(-2).exp().mean().log()


def clusters_used(code_NK: Tensor) -> Tensor:
    """How many prototypes the items use, as a perplexity: from 1 (all in one) to K (evenly)."""
    share_K = _widen(code_NK).mean(0)
    return torch.special.entr(share_K / share_K.sum()).sum().exp()


def _cosines(first_ND: Tensor, second_MD: Tensor) -> Tensor:
    """Of each and each, (N, M); autocast would round the product to 8 bits, and near ones would tie."""
    with torch.autocast(first_ND.device.type, enabled=False):
        return F.normalize(_widen(first_ND), dim=1) @ F.normalize(_widen(second_MD), dim=1).T


def _widen(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
