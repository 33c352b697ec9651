"""What is frozen, and so in no checkpoint: names for it, to know it again."""

import hashlib

import torch
from torch import nn
from torch.distributed.tensor import DTensor

ENDS = 1024  # values at each end of a tensor that are looked at: other weights differ everywhere


def frozen_names(module: nn.Module) -> dict[str, str]:
    """A hash of each frozen weight that lies here whole, by its name.

    A few values are read of each, so that a large model costs no time.
    """
    return {
        name: _hash(weight.detach())
        for name, weight in module.named_parameters()
        if not (weight.requires_grad or isinstance(weight, DTensor) or hasattr(weight, "ds_id"))
    }


def _hash(weight: torch.Tensor) -> str:
    flat = weight.flatten()
    ends = torch.cat([flat[:ENDS], flat[-ENDS:]]).cpu().contiguous()
    content = str(tuple(weight.shape)).encode() + ends.view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(content).hexdigest()[:16]
