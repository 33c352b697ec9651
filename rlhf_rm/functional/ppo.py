"""Proximal policy optimisation, token by token.

Sources: Schulman et al. 2017 (arXiv 1707.06347) for the clipped losses, Schulman et al. 2016 (arXiv
1506.02438) for the advantages, Ziegler et al. 2019 (arXiv 1909.08593) for the penalty and its controller, and
"Secrets of RLHF in Large Language Models Part II: Reward Modeling" (arXiv 2401.06080), section 5, for how
they go together.

Shape legend: N responses, T tokens of the longest, L tokens of all responses, M reward models. ``length_N``
says how many leading tokens of a response's row of T are its own; what stands behind them is not read, and 0
is returned there. Log-probabilities, divergences and entropies are in nats.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

POOLS = ("mean", "worst", "cautious")


def own_tokens(length_N: Tensor, width: int) -> Tensor:
    """Which of the tokens are a response's own, (N, T)."""
    return torch.arange(width, device=length_N.device) < length_N.unsqueeze(1)


def pool_rewards(reward_NM: Tensor, *, pool: str, caution: float) -> Tensor:
    """One reward of each response from those of M models, (N,), in reward units.

    Args:
        reward_NM: by each model.
        pool: ``mean``, ``worst`` (the least, as in Coste et al. 2023, arXiv 2310.02743), or ``cautious``:
            mean − caution · standard deviation.
        caution: of ``cautious``.
    """
    if pool == "mean":
        return reward_NM.mean(1)
    if pool == "worst":
        return reward_NM.amin(1)
    if pool == "cautious":
        return reward_NM.mean(1) - caution * reward_NM.std(1, correction=0)
    raise ValueError(f"pool={pool} is unknown: use one of {', '.join(POOLS)}")


def token_rewards(score_N: Tensor, log_ratio_NT: Tensor, length_N: Tensor, *, kl_weight: float) -> Tensor:
    """Reward of each token, (N, T): −β log(π/π_ref), and on a response's last token its score as well.

    A response without tokens has no place for its score, which is left out then.

    Args:
        score_N: what the reward model gives, penalties included.
        log_ratio_NT: log π − log π_ref of each token.
        length_N: tokens of each response.
        kl_weight: β.
    """
    own_NT = own_tokens(length_N, log_ratio_NT.shape[1])
    reward_NT = torch.where(own_NT, -kl_weight * log_ratio_NT, 0.0)
    answered = length_N > 0
    reward_NT[answered, length_N[answered] - 1] += score_N[answered]
    return reward_NT


def generalised_advantages(
    reward_NT: Tensor, value_NT: Tensor, length_N: Tensor, *, discount: float, trace_decay: float
) -> Tensor:
    """GAE, (N, T): A_t = δ_t + γλ A_{t+1} with δ_t = r_t + γ V_{t+1} − V_t; nothing follows a last token.

    A + V are the returns, what the values are to become.

    Args:
        reward_NT: of each token.
        value_NT: what the critic expects before each token.
        length_N: tokens of each response.
        discount: γ.
        trace_decay: λ.
    """
    own_NT = own_tokens(length_N, reward_NT.shape[1])
    reward_NT = reward_NT.masked_fill(~own_NT, 0.0)
    value_NT = value_NT.masked_fill(~own_NT, 0.0)
    advantage_NT = torch.zeros_like(reward_NT)
    following_N = next_value_N = torch.zeros_like(reward_NT[:, 0]) if reward_NT.shape[1] else reward_NT.sum(1)
    for t in range(reward_NT.shape[1] - 1, -1, -1):
        delta_N = reward_NT[:, t] + discount * next_value_N - value_NT[:, t]
        following_N = delta_N + discount * trace_decay * following_N
        advantage_NT[:, t] = following_N
        next_value_N = value_NT[:, t]
    return advantage_NT.masked_fill(~own_NT, 0.0)


def policy_loss(new_L: Tensor, old_L: Tensor, advantage_L: Tensor, *, clip: float) -> Tensor:
    """Clipped surrogate of each token, (L,): −min(ρA, clip(ρ, 1 − ε, 1 + ε) A) with ρ = π/π_old.

    Args:
        new_L: log-probability under the policy that is trained.
        old_L: the same when the token was drawn.
        advantage_L: of each token.
        clip: ε.
    """
    ratio_L = (new_L - old_L).exp()
    return -torch.minimum(ratio_L * advantage_L, ratio_L.clamp(1 - clip, 1 + clip) * advantage_L)


def value_loss(new_L: Tensor, old_L: Tensor, return_L: Tensor, *, clip: float | None) -> Tensor:
    """Half the squared error of each value, (L,): the greater of that and the one of V within ε of V_old.

    Args:
        new_L: values of the critic that is trained.
        old_L: values when the token was drawn.
        return_L: what they are to become.
        clip: ε; None to let them move freely.
    """
    error_L = (new_L - return_L) ** 2
    if clip is not None:
        near_L = old_L + (new_L - old_L).clamp(-clip, clip)
        error_L = torch.maximum(error_L, (near_L - return_L) ** 2)
    return 0.5 * error_L


def divergence(new_L: Tensor, old_L: Tensor) -> Tensor:
    """Estimate of KL(old ‖ new) from tokens drawn from the old policy, (L,): ρ − 1 − log ρ, never negative.

    Source: Schulman, "Approximating KL divergence" (2020).
    """
    log_ratio_L = new_L - old_L
    return log_ratio_L.exp() - 1 - log_ratio_L


def adapted_kl_weight(weight: float, kl: float, *, target: float, horizon: float, responses: int) -> float:
    """β for the next iteration: larger where the divergence is above its target, smaller below.

    Source: Ziegler et al. 2019, section 2.2: β ← β (1 + clip(KL/target − 1, −0.2, 0.2) · n/horizon), with
    n/horizon at most 1, so that β stays above 0 however many responses an iteration has.

    Args:
        weight: β so far.
        kl: mean divergence of a response from the reference, in nats.
        target: what it is to be.
        horizon: responses in which β may change by a fifth.
        responses: how many were drawn since the last change.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return weight * (1 + error * min(responses / horizon, 1.0))


class Moments(NamedTuple):
    """Number, mean and sum of squared deviations of numbers seen so far."""

    number: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def merged(self, other: "Moments") -> "Moments":
        """Of the numbers of both (Chan et al. 1979)."""
        number = self.number + other.number
        if number == 0:
            return self
        shift = other.mean - self.mean
        return Moments(
            number,
            self.mean + shift * other.number / number,
            self.squares + other.squares + shift**2 * self.number * other.number / number,
        )

    @property
    def variance(self) -> float:
        """Of the population; 0 without numbers."""
        return self.squares / self.number if self.number else 0.0

    @property
    def deviation(self) -> float:
        """Population standard deviation; 0 without numbers."""
        return math.sqrt(self.variance)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The mean less and plus 1.96 standard errors; None of one number, which says nothing of others."""
        if self.number < 2:
            return None
        half = 1.96 * self.deviation / math.sqrt(self.number)
        return self.mean - half, self.mean + half


def moments(value_N: Tensor) -> Moments:
    """Moments of some numbers, (N,)."""
    if not len(value_N):
        return Moments()
    mean = value_N.double().mean()
    return Moments(len(value_N), float(mean), float(((value_N.double() - mean) ** 2).sum()))


def explained_variance(left: Moments, returns: Moments) -> float:
    """1 − Var(return − value) / Var(return): 1 where the critic knows all, 0 or less where nothing.

    Args:
        left: moments of the returns less the values.
        returns: moments of the returns; where they do not vary there is nothing to explain, and 0 is given.
    """
    return 1 - left.variance / returns.variance if returns.variance > 0 else 0.0
