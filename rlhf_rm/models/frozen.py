"""What is frozen, and so in no checkpoint: a name for it, to know it again."""

import hashlib

import torch
from torch import nn
from torch.distributed.tensor import DTensor

ENDS = 1024  # values at each end of a tensor that are looked at: other weights differ everywhere


def frozen_name(module: nn.Module) -> str | None:
    """A hash of the frozen weights; None where there are none, or where they lie in shards.

    Of each tensor a few values are read, so that a large model costs no time.
    """
    digest, count = hashlib.sha256(), 0
    for name, weight in module.named_parameters():
        if weight.requires_grad or isinstance(weight, DTensor) or hasattr(weight, "ds_id"):
            continue
        flat = weight.detach().flatten()
        ends = torch.cat([flat[:ENDS], flat[-ENDS:]]).cpu().contiguous()
        digest.update(f"{name} {tuple(weight.shape)}".encode() + ends.view(torch.uint8).numpy().tobytes())
        count += 1
    return digest.hexdigest() if count else None
