"""Attention on a CPU: one tree after the other, so that no time goes into what a mask would block.

Shape legend: R rows, T tokens of a row, H heads, D size of a head.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv

from rlhf_rm.data.batch import Rows, Sequences
from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.base import Attention, AttentionInputs, visible
from rlhf_rm.models.attention.trees import TREES, no_mask, takes_trees

# Pairs of tokens that must be saved for each sequence, or calling SDPA for it costs more than that saves:
# measured in float32 with heads of 16 to 64 on two x86-64 cores.
WORTH = 12_000
# In bfloat16 SDPA is slow on CPUs and matrix products are fast: written out, attention is the faster way as
# long as trees take more than this share of the pairs, and rows are not so wide that its memory matters.
SHARE, WIDE = 0.35, 1024


class ByTreeAttention(Attention):
    """One sequence after the other (:class:`~rlhf_rm.data.batch.Sequences`), where that saves time.

    Under a mask every token is compared with every other of its row, and most of that is thrown away where
    trees are long: what lies above the diagonal, between trees and between branches. Rows of short trees
    are attended to under a mask: by SDPA, in bfloat16 written out.
    """

    implementation = None

    def attach(self, network: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> AttentionInputs:
        """As in the base class.

        Raises:
            UserError: another device than a CPU, or a model whose attention cannot be replaced.
        """
        if device.type != "cpu":
            raise UserError(f"attention=by_tree is for CPUs, and this is {device}: use attention=auto.")
        if not takes_trees(network):
            raise UserError(
                f"attention=by_tree cannot replace the attention of a {network.config.model_type} model: use "
                "attention=auto."
            )
        network.set_attn_implementation(TREES)
        return ByTree(dtype)


class ByTree(AttentionInputs):
    """Decides of each forward pass how it is attended to.

    Args:
        dtype: of queries, keys and values.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def mask(self, rows: Rows, *, causal: bool, window: int | None = None) -> Tensor:
        """A boolean mask for rows of short trees, and none for the others."""
        if self._by_tree(rows, causal=causal):
            return no_mask(rows.input_ids_RT.device)
        return visible(rows, causal=causal, window=window).unsqueeze(1)

    def arguments(self, rows: Rows, *, causal: bool) -> dict[str, Any]:
        """How these rows are attended to, where not by SDPA under the mask."""
        if self._by_tree(rows, causal=causal):
            return {"trees": TreeByTree(rows.sequences, causal=causal)}
        return {} if self.dtype is torch.float32 else {"trees": written_out}

    def _by_tree(self, rows: Rows, *, causal: bool) -> bool:
        count, width = rows.input_ids_RT.shape
        pairs = count * width**2
        needed = pairs_needed(rows.sequences, causal=causal)
        if self.dtype is torch.float32:
            return pairs - needed > WORTH * (len(rows.sequences.cu_seqlens_q_S) - 1)
        return needed < SHARE * pairs or width > WIDE


def pairs_needed(sequences: Sequences, *, causal: bool) -> int:
    """Pairs of a query and a key that are computed sequence by sequence.

    Where queries are their own keys, half of them are left out by causality.
    """
    queries = sequences.cu_seqlens_q_S.diff().long()
    keys = sequences.cu_seqlens_k_S.diff()
    pairs = queries * keys
    return int(torch.where((queries == keys) & causal, pairs // 2, pairs).sum())


class TreeByTree:
    """Attention over one sequence after the other, each over its own keys alone, in float32.

    Args:
        sequences: of one forward pass.
        causal: decoder or encoder.
    """

    def __init__(self, sequences: Sequences, *, causal: bool) -> None:
        self.causal = causal
        self.spans = _spans(sequences)
        self.lengths = [own for own, _, _ in self.spans]
        self._masks: dict[tuple[int, int, int | None], Tensor] = {}

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        *,
        scale: float,
        window: int | None,
        dropout: float,
    ) -> Tensor:
        """See :class:`~rlhf_rm.models.attention.trees.TreeAttention`; it needs no mask."""
        groups = query.shape[1] // key.shape[1]
        queries, keys, values = (
            _side_by_side(one).float().split(self.lengths, dim=2)
            for one in (query, repeat_kv(key, groups), repeat_kv(value, groups))
        )
        found = []
        for s, (own, first, shared) in enumerate(self.spans):
            k, v = keys[s], values[s]
            if shared:
                k, v = (torch.cat([all_[first][:, :, :shared], all_[s]], 2) for all_ in (keys, values))
            plain = not shared and (window is None or window >= own)
            found.append(
                F.scaled_dot_product_attention(
                    queries[s],
                    k,
                    v,
                    attn_mask=None if plain or not self.causal else self._mask(own, shared, window),
                    dropout_p=dropout,
                    is_causal=plain and self.causal,
                    scale=scale,
                )
            )
        rows, heads, width, _ = query.shape
        read = torch.cat(found, 2).transpose(1, 2).reshape(rows, width, heads, value.shape[-1])
        return read.to(query.dtype).contiguous()

    def _mask(self, own: int, shared: int, window: int | None) -> Tensor:
        """Which of ``shared + own`` keys the last ``own`` tokens see, (own, shared + own)."""
        known = self._masks.get((own, shared, window))
        if known is None:
            known = torch.ones(own, shared + own, dtype=torch.bool).tril(shared)
            if window is not None:
                known = known.triu(shared - window + 1)
            self._masks[own, shared, window] = known
        return known


def written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    *,
    scale: float,
    window: int | None,
    dropout: float,
) -> Tensor:
    """Attention as two matrix products under the mask, the softmax in float32.

    See :class:`~rlhf_rm.models.attention.trees.TreeAttention`; the mask knows of the window.
    """
    groups = query.shape[1] // key.shape[1]
    scores = (query @ repeat_kv(key, groups).transpose(2, 3)) * scale
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1, dtype=torch.float32)
    weights = F.dropout(weights.to(query.dtype), dropout)
    return (weights @ repeat_kv(value, groups)).transpose(1, 2).contiguous()


def _side_by_side(value: Tensor) -> Tensor:
    """(R, H, T, D) as (1, H, R * T, D)."""
    _, heads, _, size = value.shape
    return value.transpose(1, 2).reshape(1, -1, heads, size).transpose(1, 2)


def _spans(sequences: Sequences) -> list[tuple[int, int, int]]:
    """Of each sequence: its own tokens, the sequence that begins with its prefix, and the prefix's tokens.

    The first sequence of a tree holds the prefix itself, so it has 0 of it.
    """
    starts = sequences.cu_seqlens_q_S.tolist()
    queries = sequences.cu_seqlens_q_S.diff().tolist()
    keys = sequences.cu_seqlens_k_S.tolist()
    first_key = sequences.key_K[sequences.cu_seqlens_k_S[:-1].long()].tolist()
    sequence_at = {start: s for s, start in enumerate(starts)}
    return [
        (own, sequence_at[first], keys[s + 1] - keys[s] - own)
        for s, (own, first) in enumerate(zip(queries, first_key, strict=True))
    ]
