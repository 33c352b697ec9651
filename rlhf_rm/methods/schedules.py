"""Learning-rate schedules with a warm-up, as a share of the run."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from rlhf_rm.errors import UserError


def warmup_linear(optimizer: Optimizer, *, total_steps: int, warmup: float, floor: float) -> LambdaLR:
    """Linear rise over the first ``warmup`` share of the steps, then linear fall to ``floor`` of the peak."""
    return _warmup(optimizer, total_steps, warmup, lambda done: 1 - (1 - floor) * done)


def warmup_cosine(optimizer: Optimizer, *, total_steps: int, warmup: float, floor: float) -> LambdaLR:
    """As :func:`warmup_linear`, falling along half a cosine."""
    return _warmup(
        optimizer, total_steps, warmup, lambda done: floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2
    )


def warmup_constant(optimizer: Optimizer, *, total_steps: int, warmup: float) -> LambdaLR:
    """As :func:`warmup_linear`, staying at the peak."""
    return _warmup(optimizer, total_steps, warmup, lambda done: 1.0)


def _warmup(
    optimizer: Optimizer, total_steps: int, warmup: float, after: Callable[[float], float]
) -> LambdaLR:
    if not 0 <= warmup < 1:
        raise UserError(f"scheduler.warmup={warmup} must be a share of the run: at least 0, below 1.")
    rise = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return after(min(1.0, (step - rise) / max(1, total_steps - rise)))

    return LambdaLR(optimizer, factor)
