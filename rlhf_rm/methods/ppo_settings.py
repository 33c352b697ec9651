"""The settings of proximal policy optimisation, in the groups that belong together."""

from dataclasses import dataclass

from rlhf_rm.functional.ppo import Moments


@dataclass(frozen=True)
class Shaping:
    """From a reward model's score to the rewards of tokens.

    Args:
        kl_weight: β, of the divergence from the reference in each token.
        kl_target: nats a response that β is adapted towards; None keeps β as it is.
        kl_horizon: responses in which an adapted β may change by a fifth.
        normalise: take scores less their running mean, over their running deviation.
        clip: scores are kept within ± this, after normalising; None for no limit.
        missing_eos_penalty: taken from the score of a response that did not end.
        discount, trace_decay: γ and λ of the advantages.
    """

    kl_weight: float
    kl_target: float | None
    kl_horizon: float
    normalise: bool
    clip: float | None
    missing_eos_penalty: float
    discount: float
    trace_decay: float


@dataclass(frozen=True)
class Objective:
    """What a step minimises: policy loss + value_weight · value loss − entropy_weight · entropy + texts.

    Args:
        clip: how far from 1 the ratio of probabilities counts.
        value_clip: how far a value may move from where it was; None for no limit.
        value_weight, entropy_weight, text_weight: of the parts; the last of the cross entropy of dialogues
            that are imitated beside.
        critic_learning_rate: the critic's own; the actor has the optimiser's.
    """

    clip: float
    value_clip: float | None
    value_weight: float
    entropy_weight: float
    text_weight: float
    critic_learning_rate: float


@dataclass(frozen=True)
class Limits:
    """Where a run has gone wrong, and ends.

    Args:
        kl: nats a response from the reference; None for no limit.
        reward_drop: standard deviations of the first iteration's rewards that the mean may fall below theirs.
    """

    kl: float | None
    reward_drop: float | None

    def why_lost(self, kl: float, rewards: Moments, first: Moments) -> str | None:
        """What is wrong with an iteration, as a clause; None if nothing is.

        Args:
            kl: its mean divergence of a response from the reference, in nats.
            rewards, first: its rewards, and those of the first iteration.
        """
        if self.reward_drop is not None and rewards.mean < first.mean - self.reward_drop * first.deviation:
            return (
                f"the mean reward fell from {first.mean:.2f} to {rewards.mean:.2f}, more than "
                f"ppo.limits.reward_drop={self.reward_drop} deviations"
            )
        if self.kl is not None and kl > self.kl:
            return f"its responses are {kl:.1f} nats from the reference, more than ppo.limits.kl={self.kl}"
        return None
