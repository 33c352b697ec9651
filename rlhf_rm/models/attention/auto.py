"""The fastest attention that a device, a dtype and a model can do."""

import torch
from lightning.pytorch.utilities import rank_zero_only
from transformers import PreTrainedModel

from rlhf_rm.models.attention.base import Attention, AttentionInputs, soft_capped
from rlhf_rm.models.attention.by_tree import ByTreeAttention
from rlhf_rm.models.attention.eager import EagerAttention
from rlhf_rm.models.attention.flash import FlashAttention
from rlhf_rm.models.attention.flex import FlexAttention
from rlhf_rm.models.attention.kernels import installed_kernels
from rlhf_rm.models.attention.sdpa import SDPAAttention
from rlhf_rm.models.attention.trees import takes_trees

_said: set[str] = set()


class AutoAttention(Attention):
    """Chooses when a network first runs on a device in a dtype, and on a GPU says what and why, once."""

    implementation = None

    def attach(self, network: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> AttentionInputs:
        """As in the base class."""
        chosen, why = choose(network, device, dtype)
        if device.type == "cuda":
            _say(f"attention: {why}")
        return chosen.attach(network, device, dtype)


def choose(network: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> tuple[Attention, str]:
    """What is to run a network, and why, in words."""
    if device.type == "cuda":
        not_flash = FlashAttention.why_not(network, device, dtype)
        if not_flash is None:
            return FlashAttention(), f"flash, by {installed_kernels()[0].name}"
        not_flex = FlexAttention.why_not(network)
        if not_flex is None:
            return FlexAttention(), f"flex, and not flash: {not_flash}"
        plain, why = _plain(network)
        return plain, f"{why}, and not flash or flex: {not_flash}, and {not_flex}"
    if device.type == "cpu" and takes_trees(network) and not soft_capped(network):
        return ByTreeAttention(), "by_tree"
    return _plain(network)


def _plain(network: PreTrainedModel) -> tuple[Attention, str]:
    """What every model can do."""
    if soft_capped(network) or not getattr(network, "_supports_sdpa", False):
        return EagerAttention(), "eager"
    return SDPAAttention(), "sdpa"


@rank_zero_only
def _say(text: str) -> None:
    """Say something once in a process."""
    if text not in _said:
        _said.add(text)
        print(text)
