"""A step of the weights up a gradient, and the exact way back."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rlhf_rm.errors import UserError
from rlhf_rm.strategies.fsdp import whole

KINDS = ("plain", "normalised")


class Ascent:
    """Takes weights from θ up to θ′ along the gradient that they hold, and brings them back bit by bit.

    It keeps one copy of the weights, and no more. Sharded weights (FSDP2) move shard by shard. Source:
    MetaRM (arXiv 2405.00438), section 2, the meta step; paper, section 4.

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
        self._steered: list[Tensor] = []  # of each, how many weights have a gradient other than 0
        self._copies: dict[nn.Parameter, Tensor] = {}

    @torch.no_grad()
    def up(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Step along the gradients that the parameters hold; returns ‖∇J‖.

        Parameters without a gradient stay where they are. Call :meth:`back` before anything else changes
        them.
        """
        self._moved, self._steered = [], []
        moving = [parameter for parameter in parameters if parameter.grad is not None]
        gradients = [parameter.grad for parameter in moving if parameter.grad is not None]
        norm = whole(torch.nn.utils.get_total_norm(gradients))
        # A gradient of 0 goes nowhere, and must not go there by way of 0/0.
        step = self.learning_rate if self.kind == "plain" else self.radius / max(float(norm), 1e-30)
        for parameter, gradient in zip(moving, gradients, strict=True):
            # The copy's memory is kept for the next step: to ask for it anew takes longer than to fill it.
            if parameter not in self._copies:
                self._copies[parameter] = torch.empty_like(parameter)
            self._copies[parameter].copy_(parameter)
            self._steered.append(torch.count_nonzero(gradient))
            self._moved.append(parameter)  # not before its copy is made: that may fail, and then it stays
            parameter.add_(gradient, alpha=step)
        return norm

    @torch.no_grad()
    def back(self) -> dict[str, Tensor]:
        """Put the weights back as they were, bit by bit, and say what the step was.

        ``ascent_length`` is ‖θ′ − θ‖. ``ascent_changed`` is the share that differ of the weights whose
        gradient was not 0, as it is of the words that a step does not read: far below 1 the step is lost in
        rounding. ``ascent_cosine`` is that of the step with the gradient which the parameters hold now.
        """
        steps, changed, along = [], [], []
        for parameter in self._moved:
            before = self._copies[parameter]
            parameter.sub_(before)  # the step, in the place of what is known anyway: no memory of its own
            steps.append(whole(torch.linalg.vector_norm(parameter.data)))
            changed.append(whole(torch.count_nonzero(parameter.data)))
            if parameter.grad is not None:
                along.append(whole(_dot(parameter.data, parameter.grad)))
            parameter.copy_(before)
        steered = [whole(one) for one in self._steered]
        told = _told(self._moved, steps, changed, steered, along)
        self._moved, self._steered = [], []
        return told


def _told(
    moved: list[nn.Parameter],
    steps: list[Tensor],
    changed: list[Tensor],
    steered: list[Tensor],
    along: list[Tensor],
) -> dict[str, Tensor]:
    """What :meth:`Ascent.back` says, from what it has of each parameter."""
    if not moved:
        return {}
    length = torch.stack(steps).double().square().sum().sqrt()
    slope = whole(torch.nn.utils.get_total_norm([one.grad for one in moved if one.grad is not None])).double()
    # Where all gradients are 0 nothing is lost.
    share = (torch.stack(changed).sum() / torch.stack(steered).sum()).nan_to_num(1.0)
    dot = torch.stack(along).double().sum() if along else torch.zeros_like(length)
    return {
        "ascent_length": length.float(),
        "ascent_changed": share,
        "ascent_cosine": (dot / (length * slope).clamp(min=1e-300)).float(),
    }


def _dot(first: Tensor, second: Tensor) -> Tensor:
    if isinstance(first, DTensor):
        return (first * second).sum()
    return torch.dot(first.flatten(), second.flatten())
