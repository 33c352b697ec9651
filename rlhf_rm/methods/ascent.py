"""A step of the weights up a gradient, and the exact way back."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rlhf_rm.errors import UserError

KINDS = ("plain", "normalised")


class Ascent:
    """Takes weights from θ up to θ′ along the gradient that they hold, and brings them back bit by bit.

    Between the two there is one copy of the weights, and no more. Sharded weights (FSDP2) move shard by
    shard. Source: MetaRM (arXiv 2405.00438), section 2, the meta step; paper, section 4.

    Args:
        kind: ``plain`` is the paper's θ′ = θ + η ∇J. ``normalised`` is θ′ = θ + ρ ∇J / ‖∇J‖, a step of one
            length however small the gradient.
        learning_rate: η of ``plain``.
        radius: ρ of ``normalised``, in the units of the weights.

    Raises:
        UserError: an unknown kind, or a number that is not above 0.
    """

    def __init__(self, kind: str, learning_rate: float, radius: float) -> None:
        if kind not in KINDS:
            raise UserError(f"meta.ascent.kind={kind} is unknown: use one of {', '.join(KINDS)}.")
        for name, value in (("learning_rate", learning_rate), ("radius", radius)):
            if not 0 < value < float("inf"):
                raise UserError(f"meta.ascent.{name}={value} must be a number above 0.")
        self.kind, self.learning_rate, self.radius = kind, learning_rate, radius
        self._moved: list[nn.Parameter] = []
        self._before: list[Tensor] = []

    @torch.no_grad()
    def up(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Step along the gradients that the parameters hold; returns ‖∇J‖.

        Parameters without a gradient stay where they are. Call :meth:`back` before anything else changes
        them.
        """
        self._moved = [parameter for parameter in parameters if parameter.grad is not None]
        gradients = [parameter.grad for parameter in self._moved if parameter.grad is not None]
        norm = torch.stack([_square(gradient) for gradient in gradients]).sum().sqrt()
        self._before = [parameter.detach().clone() for parameter in self._moved]
        # A gradient of 0 goes nowhere, and must not go there by way of 0/0.
        step = self.learning_rate if self.kind == "plain" else self.radius / norm.clamp(min=1e-30)
        for parameter, gradient in zip(self._moved, gradients, strict=True):
            parameter.add_(gradient * step)
        return norm

    @torch.no_grad()
    def measures(self) -> dict[str, Tensor]:
        """What the step was, between :meth:`up` and :meth:`back`.

        ``ascent_length`` is ‖θ′ − θ‖, ``ascent_changed`` the share of the weights that differ: far below 1
        the step is lost in their rounding. ``ascent_cosine`` is that of the step with the gradient which
        the parameters hold now. All are taken from the weights themselves, one at a time, so that no second
        copy is needed.
        """
        zero = torch.zeros((), device=self._moved[0].device, dtype=torch.float64)
        square, changed, along, slope = (zero.clone() for _ in range(4))
        total = 0
        for parameter, before in zip(self._moved, self._before, strict=True):
            step = parameter - before
            square += _square(step)
            changed += _whole((step != 0).sum())
            total += step.numel()
            if parameter.grad is not None:
                along += _whole((step * parameter.grad).sum(dtype=torch.float64))
                slope += _square(parameter.grad)
        lengths = (square.sqrt() * slope.sqrt()).clamp(min=1e-300)
        return {
            "ascent_length": square.sqrt().float(),
            "ascent_changed": (changed / total).float(),
            "ascent_cosine": (along / lengths).float(),
        }

    @torch.no_grad()
    def back(self) -> None:
        """Put the weights back as they were, bit by bit, and drop the copy."""
        for parameter, before in zip(self._moved, self._before, strict=True):
            parameter.copy_(before)
        self._moved, self._before = [], []


def _square(values: Tensor) -> Tensor:
    """The sum of all squares, in float64."""
    return _whole(values.float().square().sum(dtype=torch.float64))


def _whole(value: Tensor) -> Tensor:
    """A sum over all shards."""
    return value.full_tensor() if isinstance(value, DTensor) else value
