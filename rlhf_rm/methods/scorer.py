"""The reward that a policy is trained on: one reward model's, or what several agree on.

Shape legend: N responses, M reward models.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlhf_rm.data.encode import Dialogue, DialogueEncoder
from rlhf_rm.data.packing import Packing
from rlhf_rm.errors import UserError
from rlhf_rm.functional.ppo import POOLS, pool_rewards
from rlhf_rm.methods.scoring import response_rewards
from rlhf_rm.models.dropout import without_dropout
from rlhf_rm.models.load import LoadedReward


class ResponseScorer(nn.Module):
    """Rewards of texts by frozen reward models.

    Each reads the text by its own tokenizer and chat template, so they need not be those of the policy.

    Args:
        models: the reward models.
        pool: what several rewards become: see :func:`~rlhf_rm.functional.ppo.pool_rewards`.
        caution: of ``pool=cautious``.
        row_tokens, micro_tokens, row_multiple: see :class:`~rlhf_rm.data.packing.Packing`.

    Raises:
        UserError: no model, an unknown pool, or a negative caution.
    """

    def __init__(
        self,
        models: Sequence[LoadedReward],
        *,
        pool: str,
        caution: float,
        row_tokens: int,
        micro_tokens: int,
        row_multiple: int,
    ) -> None:
        super().__init__()
        if not models:
            raise UserError("ppo.reward names no reward model: give a run, an export or a hub model.")
        if pool not in POOLS or caution < 0:
            raise UserError(
                f"ppo.pool={pool} must be one of {', '.join(POOLS)}, and ppo.caution={caution} at least 0."
            )
        self.models = nn.ModuleList(loaded.model for loaded in models)
        self.requires_grad_(False)
        for model in self.models:
            without_dropout(model)
        self.train()
        self.pool, self.caution = pool, caution
        self._readers = [
            (
                DialogueEncoder(
                    loaded.tokenizer, max_length=loaded.max_length, too_long="truncate_prompt_left"
                ),
                Packing(
                    loaded.model.backbone.choose_layout("auto"),
                    row_tokens,
                    micro_tokens,
                    loaded.tokenizer.pad_token_id,
                    row_multiple=row_multiple,
                ),
            )
            for loaded in models
        ]

    def forward(self, dialogues: Sequence[Dialogue]) -> Tensor:
        """Reward of each response, (N,), float32, on the CPU.

        Raises:
            UserError: a reward is no finite number.
        """
        rewards = [
            response_rewards(model, encoder, packing, dialogues)  # type: ignore[arg-type]
            for model, (encoder, packing) in zip(self.models, self._readers, strict=True)
        ]
        return pool_rewards(torch.cat(rewards, dim=1), pool=self.pool, caution=self.caution)
