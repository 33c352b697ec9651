"""FlashAttention for sequences of different lengths, from whoever has it.

Shape legend: Q queries of all sequences, K keys of all sequences, H heads, D size of a head.
"""

from abc import ABC, abstractmethod
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor

from rlhf_rm.data.batch import Sequences
from rlhf_rm.errors import UserError

TOLERANCE = 2e-2  # of attention in 16 bits over values of size 1, against float32


class VarlenKernel(ABC):
    """A FlashAttention kernel.

    Attributes:
        name: what it is called in messages.
    """

    name: str

    @abstractmethod
    def is_installed(self) -> bool:
        """Whether its package is there."""

    @abstractmethod
    def __call__(
        self,
        query_QHD: Tensor,
        key_KHD: Tensor,
        value_KHD: Tensor,
        sequences: Sequences,
        *,
        scale: float,
        causal: bool,
        window: int | None,
    ) -> Tensor:
        """What each query reads, (Q, H, D).

        Args:
            query_QHD: of all sequences.
            key_KHD, value_KHD: of all sequences, in the order of ``sequences.key_K``; H may be fewer.
            sequences: where each begins.
            scale: of the scores.
            causal: aligned at the bottom right: the last query of a sequence sees all of its keys.
            window: tokens that a causal query sees at most, itself included; None for all.
        """


class FlashAttn(VarlenKernel):
    """Of the package ``flash-attn``, from version 2.1 on, which aligns at the bottom right; 3 is for Hopper.

    Args:
        module: where it is imported from.
        name: see :class:`VarlenKernel`.
    """

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def is_installed(self) -> bool:
        """See :class:`VarlenKernel`."""
        return find_spec(self.module) is not None

    def __call__(
        self,
        query_QHD: Tensor,
        key_KHD: Tensor,
        value_KHD: Tensor,
        sequences: Sequences,
        *,
        scale: float,
        causal: bool,
        window: int | None,
    ) -> Tensor:
        """See :class:`VarlenKernel`."""
        found = import_module(self.module).flash_attn_varlen_func(
            query_QHD,
            key_KHD,
            value_KHD,
            sequences.cu_seqlens_q_S,
            sequences.cu_seqlens_k_S,
            sequences.max_seqlen_q,
            sequences.max_seqlen_k,
            softmax_scale=scale,
            causal=causal,
            window_size=(-1, -1) if window is None else (window - 1, 0),
        )
        # Some versions of 3 return the normaliser too.
        read: Tensor = found[0] if isinstance(found, tuple) else found
        return read


class TorchVarlen(VarlenKernel):
    """PyTorch's own, ``torch.nn.attention.varlen``."""

    name = f"PyTorch {torch.__version__}"

    def is_installed(self) -> bool:
        """See :class:`VarlenKernel`."""
        return find_spec("torch.nn.attention.varlen") is not None

    def __call__(
        self,
        query_QHD: Tensor,
        key_KHD: Tensor,
        value_KHD: Tensor,
        sequences: Sequences,
        *,
        scale: float,
        causal: bool,
        window: int | None,
    ) -> Tensor:
        """See :class:`VarlenKernel`."""
        from torch.nn.attention.varlen import varlen_attn

        left, right = (-1 if window is None else window - 1), (0 if causal else -1)
        read = varlen_attn(
            query_QHD,
            key_KHD,
            value_KHD,
            sequences.cu_seqlens_q_S,
            sequences.cu_seqlens_k_S,
            sequences.max_seqlen_q,
            sequences.max_seqlen_k,
            scale=scale,
            window_size=(left, right),
            enable_gqa=query_QHD.shape[1] != key_KHD.shape[1],
        )
        assert isinstance(read, Tensor)
        return read


KERNELS: tuple[VarlenKernel, ...] = (
    FlashAttn("flash_attn_interface", "flash-attn 3"),
    FlashAttn("flash_attn", "flash-attn 2"),
    TorchVarlen(),
)


def installed_kernels() -> list[VarlenKernel]:
    """Those whose packages are there, the fastest first."""
    return [kernel for kernel in KERNELS if kernel.is_installed()]


@torch.no_grad()
def check_alignment(kernel: VarlenKernel, device: torch.device, dtype: torch.dtype) -> None:
    """Compare a kernel with attention written out in float32, on sequences with more keys than queries.

    Raises:
        UserError: they differ: the kernel aligns causal attention at another corner, or counts windows or
            groups of heads differently.
    """
    sequences = Sequences(
        torch.tensor([0, 5, 8], dtype=torch.int32),
        torch.tensor([0, 5, 12], dtype=torch.int32),
        torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3, 5, 6, 7]),
        5,
        7,
    ).to(device)
    made = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(8, heads, 64, generator=made).to(device, dtype) for heads in (4, 2, 2))
    keys, values = key[sequences.key_K], value[sequences.key_K]
    for causal, window in ((True, None), (True, 3), (False, None)):
        got = kernel(query, keys, values, sequences, scale=0.125, causal=causal, window=window)
        wanted = dense_varlen(query, keys, values, sequences, scale=0.125, causal=causal, window=window)
        apart = float((got.float() - wanted.float()).abs().max())
        if not apart <= TOLERANCE:
            raise UserError(
                f"the attention of {kernel.name} on {device} differs by {apart:.2g} from attention written "
                f"out (causal={causal}, window={window}), so it cannot be used: take attention=flex or "
                "attention=sdpa, or another version of it (flash-attn from 2.1 on)."
            )


def dense_varlen(
    query_QHD: Tensor,
    key_KHD: Tensor,
    value_KHD: Tensor,
    sequences: Sequences,
    *,
    scale: float,
    causal: bool,
    window: int | None,
) -> Tensor:
    """What a :class:`VarlenKernel` computes, written out in float32, one sequence after the other."""
    found = []
    starts_q, starts_k = sequences.cu_seqlens_q_S.tolist(), sequences.cu_seqlens_k_S.tolist()
    group = query_QHD.shape[1] // key_KHD.shape[1]
    for s in range(len(starts_q) - 1):
        query = query_QHD[starts_q[s] : starts_q[s + 1]].float()
        key, value = (
            one[starts_k[s] : starts_k[s + 1]].float().repeat_interleave(group, 1)
            for one in (key_KHD, value_KHD)
        )
        before = len(key) - len(query)
        sees = torch.ones(len(query), len(key), dtype=torch.bool, device=query.device)
        if causal:
            sees = sees.tril(before)
        if window is not None:
            sees = sees.triu(before - window + 1)
        scores = torch.einsum("qhd,khd->hqk", query, key) * scale
        weights = scores.masked_fill(~sees, float("-inf")).softmax(-1)
        found.append(torch.einsum("hqk,khd->qhd", weights, value))
    return torch.cat(found).to(query_QHD.dtype)
