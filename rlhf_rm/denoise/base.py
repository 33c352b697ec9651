"""What a recipe works on.

Shape legend: M members, B training pairs. Strengths and margins are in reward units.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Protocol

import torch
from torch import Tensor

from rlhf_rm.errors import UserError
from rlhf_rm.functional.voting import strength_rank
from rlhf_rm.overrides import override_of

# Weights are stored in float32, and a step is divided by their sum: the inverse of less may be infinite.
LEAST_WEIGHT = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, slots=True)
class Labels:
    """Strengths and label columns of the training pairs; a step of a recipe returns changed ones.

    Args:
        mean, std: strength of each pair as it is labelled now, (B,): a flip turns the sign of the mean.
        rank: where each pair stood by strength before any flip, (B,), in (0, 1).
        members_MB: each member's difference as the pairs are labelled now, (M, B).
        swap: whether chosen and rejected change places, (B,), bool.
        target: probability that chosen is better, (B,).
        margin: by how much chosen should exceed rejected, (B,).
        weight: in the mean of the losses, (B,).
        keep: whether the pair is trained on if it has a weight, (B,), bool.
    """

    mean: Tensor
    std: Tensor
    rank: Tensor
    members_MB: Tensor
    swap: Tensor
    target: Tensor
    margin: Tensor
    weight: Tensor
    keep: Tensor

    @property
    def trained_on(self) -> Tensor:
        """Whether each pair is trained on, (B,): kept, and with a weight that counts as it is stored."""
        return self.keep & (self.weight.float() >= LEAST_WEIGHT)


class SettingError(UserError):
    """A setting of a step is not what it may be: ``NAME=VALUE must be …``; :class:`Recipe` adds whose."""


class LabelStep(Protocol):
    """One step of a recipe: changes label columns by strength; subclass nothing, be callable."""

    def __call__(self, labels: Labels) -> Labels:
        """The changed labels.

        Raises:
            SettingError: a setting out of its range.
            UserError: labels that it cannot change.
        """
        ...


class Recipe:
    """Steps that are taken one after another, in the order in which they are given.

    Args:
        steps: by name; a step of None is left out, so that a configuration can switch one off.
    """

    def __init__(self, steps: Mapping[str, LabelStep | None]) -> None:
        self.steps = {name: step for name, step in steps.items() if step is not None}

    def __call__(self, mean: Tensor, std: Tensor, members_MB: Tensor, margin: Tensor) -> Labels:
        """The label columns of pairs of these strengths.

        Args:
            mean, std: of the strengths, (B,).
            members_MB: each member's difference, (M, B).
            margin: what the data itself asks for, (B,).

        Raises:
            UserError: a setting of a step is out of its range, or no pair is left.
        """
        labels = Labels(
            mean=mean,
            std=std,
            rank=strength_rank(mean),
            members_MB=members_MB,
            swap=torch.zeros(len(mean), dtype=torch.bool),
            target=torch.ones(len(mean), dtype=torch.float64),
            margin=margin.double(),
            weight=torch.ones(len(mean), dtype=torch.float64),
            keep=torch.ones(len(mean), dtype=torch.bool),
        )
        for name, step in self.steps.items():
            try:
                labels = step(labels)
            except SettingError as error:
                raise UserError(f"denoise.recipe.steps.{name}.{error}") from error
        if not labels.trained_on.any():
            raise UserError(
                f"the recipe {' + '.join(self.steps) or 'without steps'} leaves none of the {len(mean)} "
                "training pairs: let it keep more."
            )
        return labels


def flipped(labels: Labels, which_B: Tensor) -> Labels:
    """Chosen and rejected of these pairs change places, and with them the sign of all that is signed.

    Raises:
        UserError: a target of theirs is set already: is it meant for the pair before or after the flip?
    """
    if (labels.target[which_B] != 1).any():
        raise UserError(
            "the recipe flips pairs whose target an earlier step has set: let the flip come first, as in "
            "denoise=flip '+denoise.recipe.steps.vote_target={_target_: "
            "rlhf_rm.denoise.vote_target.VoteTarget, share: 1.0}'."
        )
    sign_B = torch.where(which_B, -1.0, 1.0).double()
    return replace(
        labels,
        swap=labels.swap ^ which_B,
        mean=labels.mean * sign_B,
        members_MB=labels.members_MB * sign_B,
        margin=labels.margin * sign_B,
    )


def check_number(
    name: str, value: Any, allowed: str, holds: Callable[[Any], bool], whole: bool = False
) -> None:
    """Refuse a setting that is no real, finite number, or not one of those allowed.

    Args:
        name: of the setting, as it stands under its step.
        value: what it was set to, of whatever type.
        allowed: which numbers, in words: ``above 0``.
        holds: whether a number is one of them.
        whole: whether it has to be a whole one.

    Raises:
        SettingError: see above.
    """
    # To Python a boolean is a number too, but nobody means one.
    number = not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
    if not number or not holds(value) or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise SettingError(f"{override_of(name, value)} must be {kind} {allowed}.")


def check_share(name: str, value: Any) -> None:
    """Refuse a setting that is no number from 0 to 1; see :func:`check_number`."""
    check_number(name, value, "from 0 to 1", lambda share: 0 <= share <= 1)
