"""How much arithmetic a training step needs at least, and how fast this machine multiplies matrices."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from rlhf_rm.data.packing import Tree

SIZES = {"cpu": 2048, "cuda": 8192}  # of square matrices


def useful_flops(config: Any, trees: Sequence[Tree]) -> float:
    """Floating-point operations of the forward and backward passes that no layout can do without.

    6 · W a token, where W are the weights of the layers' matrices and a token of a shared prefix counts
    once, and 12 · L · H · d a pair of a query and a key that it sees, where L are the layers, H the heads
    and d their size: two products of 2 · H · d operations each, once forward and twice backward. Left out
    are embeddings, the head, norms and activations, the optimiser, and whatever is computed again.

    Args:
        config: of the model, in the words of `transformers`.
        trees: what is trained on.
    """
    hidden, layers = config.hidden_size, config.num_hidden_layers
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or hidden // heads
    for_keys = getattr(config, "num_key_value_heads", None) or heads
    attention = 2 * hidden * size * heads + 2 * hidden * size * for_keys
    weights = layers * (attention + 3 * hidden * config.intermediate_size)
    tokens = sum(tree.size("shared") for tree in trees)
    return 6.0 * weights * tokens + 12.0 * layers * heads * size * sum(map(seen_pairs, trees))


def work_a_pair(config: Any, trees: Sequence[Tree], *, training: bool) -> dict[str, float]:
    """Distinct tokens, and operations that are needed at least, of one of these trees.

    Args:
        config, trees: see :func:`useful_flops`.
        training: forward and backward, which is three times a forward pass alone.
    """
    passes = 1 if training else 1 / 3
    return {
        "distinct_tokens_a_pair": sum(tree.size("shared") for tree in trees) / len(trees),
        "useful_flops_a_pair": passes * useful_flops(config, trees) / len(trees),
    }


def seen_pairs(tree: Tree) -> int:
    """Pairs of a query and a key that it sees: a prefix by itself, and each branch by prefix and itself."""
    pairs = tree.shared * (tree.shared + 1) // 2
    for branch in tree.branches:
        own = len(branch) - tree.shared
        pairs += own * tree.shared + own * (own + 1) // 2
    return pairs


def matrix_peak(device: str, dtype: torch.dtype, repetitions: int = 10) -> float:
    """Operations a second of a large product of square matrices: the best of several."""
    size = SIZES[device]
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repetitions):
        _wait(device)
        before = time.perf_counter()
        torch.mm(a, b)
        _wait(device)
        best = min(best, time.perf_counter() - before)
    return 2 * size**3 / best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
