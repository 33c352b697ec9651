"""A reward model as judge."""

from collections.abc import Callable, Sequence
from typing import Any

from rlhf_rm.data.encode import DialogueEncoder
from rlhf_rm.data.packing import Packing
from rlhf_rm.judging.base import Comparison, by_score
from rlhf_rm.methods.scoring import response_rewards
from rlhf_rm.models.attention.base import Attention
from rlhf_rm.models.load import load_reward_model


class RewardJudge:
    """Judges by the rewards of a model; equal rewards are a tie.

    Args:
        run: a run directory, an export, or a reward model on the hub.
        attention: how to attend.
        tie: rewards that are at most this far apart are a tie too.
        template, device, trust_remote_code: see :func:`~rlhf_rm.models.load.load_reward_model`.
        layout, row_tokens, micro_tokens, row_multiple: see :class:`~rlhf_rm.data.packing.Packing`.
        too_long: see :class:`~rlhf_rm.data.encode.DialogueEncoder`.
    """

    def __init__(
        self,
        run: str,
        attention: Attention,
        *,
        tie: float,
        template: str,
        device: str,
        trust_remote_code: bool,
        layout: str,
        row_tokens: int,
        micro_tokens: int,
        row_multiple: int,
        too_long: str,
    ) -> None:
        loaded = load_reward_model(
            run, attention, device=device, template=template, trust_remote_code=trust_remote_code
        )
        self.model, self.tie = loaded.model, tie
        self.encoder = DialogueEncoder(loaded.tokenizer, max_length=loaded.max_length, too_long=too_long)
        pad_id = loaded.tokenizer.pad_token_id
        self.packing = Packing(
            loaded.model.backbone.choose_layout(layout),
            row_tokens,
            micro_tokens,
            pad_id,
            row_multiple=row_multiple,
        )

    def verdicts(
        self, comparisons: Sequence[Comparison], advance: Callable[[int], Any] = lambda done: None
    ) -> list[str]:
        """See :class:`~rlhf_rm.judging.base.Judge`.

        Raises:
            UserError: a reward is no finite number.
        """
        responses = [(one.messages, text) for one in comparisons for text in (one.a, one.b)]
        reward_C2 = response_rewards(self.model, self.encoder, self.packing, responses).mean(1).view(-1, 2)
        advance(len(comparisons))
        return by_score(reward_C2[:, 0] - reward_C2[:, 1], self.tie)
