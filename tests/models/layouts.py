"""Rewards of the same responses in each layout, and of each response by itself."""

import torch

from rlhf_rm.data.packing import Packing, Tree
from rlhf_rm.models.reward import RewardModel


def rewards(model: RewardModel, trees: list[Tree], layout: str, row_tokens=90, micro_tokens=200, pad_id=0):
    """Rewards (pairs, 2) in the order of the trees."""
    out = torch.empty(len(trees), 2)
    for rows, order in Packing(layout, row_tokens, micro_tokens, pad_id, row_multiple=1).pack(trees):
        out[order] = model(rows).view(-1, 2)
    return out


def alone(model: RewardModel, trees: list[Tree]) -> torch.Tensor:
    """The reference: each response by itself, through the network's own forward pass."""
    return torch.stack(
        [
            torch.stack(
                [model.network(input_ids=torch.tensor(b)[None].long()).logits[0, 0] for b in tree.branches]
            )
            for tree in trees
        ]
    )
