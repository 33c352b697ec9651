"""What people read in place of a metric's key, in the order in which metrics are shown."""

from collections.abc import Sequence

METRIC_NAMES = {
    "pairs": "pairs",
    "trained_on": "of these in the training data",
    "accuracy": "accuracy",
    "best_of_n": "best of n",
    "accuracy_of_length": "accuracy of 'the longer one'",
    "ties": "ties",
    "loss": "loss (nats)",
    "ece": "calibration error (ECE)",
    "brier": "Brier score",
    "mean_margin": "mean margin",
    "length_correlation": "rank correlation with length",
    "perplexity": "perplexity",
    "prompts": "prompts",
    "reward": "reward",
    "reward_reference": "reward before",
    "gold": "gold reward",
    "gold_reference": "gold reward before",
    "length": "tokens of a response",
    "length_reference": "tokens before",
    "finished": "responses that end",
}


def with_interval(value: float, interval: Sequence[float] | None) -> str:
    """A number with its interval, if it has one: ``0.893 (0.876 to 0.909)``."""
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
