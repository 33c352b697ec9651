"""Vote target: the label is what the ensemble itself finds probable."""

from dataclasses import dataclass, replace

from rlhf_rm.denoise.base import Labels, check_share
from rlhf_rm.errors import UserError
from rlhf_rm.functional.voting import vote_probability


@dataclass(frozen=True)
class VoteTarget:
    """Target (1 − share) · label + share · mean of σ(d_m): distillation of the ensemble.

    Beyond the paper. With ``share`` 1 the human label no longer counts, but for what it taught the
    ensemble.

    Args:
        share: of the vote in the target, in [0, 1].
    """

    share: float

    def __call__(self, labels: Labels) -> Labels:
        """See :class:`~rlhf_rm.denoise.base.LabelStep`."""
        check_share("share", self.share)
        if not len(labels.members_MB):
            raise UserError(
                "denoise=vote_target needs each member's difference, but these strengths hold only their "
                "mean: use strengths with member_00, member_01, …, or denoise=soft."
            )
        vote_B = vote_probability(labels.members_MB)
        return replace(labels, target=(1 - self.share) * labels.target + self.share * vote_B)
