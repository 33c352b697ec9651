"""Adaptive margin: the stronger a preference, the further apart its rewards."""

from dataclasses import dataclass, replace

from rlhf_rm.denoise.base import Labels, check_number


@dataclass(frozen=True)
class AdaptiveMargin:
    """Add s · clip(μ, −c, c) to the margin: −log σ(Δ − s · clip(μ, −c, c)).

    Source: paper, section 2.2 (adaptive margin; its printed equation has a misplaced bracket, this is
    the intended one). Large margins destabilise.

    Args:
        scale: s, at least 0.
        clip: c, in reward units, above 0.
    """

    scale: float
    clip: float

    def __call__(self, labels: Labels) -> Labels:
        """See :class:`~rlhf_rm.denoise.base.LabelStep`."""
        check_number("scale", self.scale, "of at least 0", lambda scale: scale >= 0)
        check_number("clip", self.clip, "above 0", lambda clip: clip > 0)
        return replace(labels, margin=labels.margin + self.scale * labels.mean.clamp(-self.clip, self.clip))
