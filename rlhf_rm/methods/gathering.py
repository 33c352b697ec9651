"""Rows of all ranks, one below the other, where each rank has as many as it has.

Shape legend: N rows of this rank, M rows of all ranks, D whatever a row has.
"""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F


def rows_of_ranks(module: L.LightningModule, rows: int) -> list[int]:
    """How many rows each rank has. All ranks must ask."""
    counted: Any = module.all_gather(torch.tensor(rows, device=module.device))
    counts: list[int] = counted.view(-1).tolist()
    return counts


def gather_rows(module: L.LightningModule, values_ND: Tensor, counts: list[int]) -> Tensor:
    """The rows of all ranks, (M, D), with their gradients. All ranks must ask.

    A collective takes tensors of one shape: shorter ones are filled up on the way.

    Args:
        module: which knows the ranks.
        values_ND: of this rank.
        counts: rows of each rank; see :func:`rows_of_ranks`.
    """
    if len(counts) == 1:
        return values_ND
    filled = F.pad(values_ND, (0, 0, 0, max(counts) - len(values_ND)))
    gathered: Any = module.all_gather(filled, sync_grads=values_ND.requires_grad)
    return torch.cat([one_ND[:count] for one_ND, count in zip(gathered, counts, strict=True)])
