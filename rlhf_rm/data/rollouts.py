"""Responses of a policy, as what it learns from: packed by prompt, with what is known of each token.

Shape legend: N responses, T tokens of the longest response, L response tokens of one forward pass.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from rlhf_rm.data.batch import Rows, TensorRecord, idle_rows
from rlhf_rm.data.packing import Packing, Tokens, Tree, shared_prefix
from rlhf_rm.functional.ppo import Moments, own_tokens


@dataclass(frozen=True, slots=True)
class TokenBatch(TensorRecord):
    """The response tokens of one forward pass.

    Args:
        rows: the packed tokens of prompts and responses.
        predictor_L: flat index (row * T + column) of the token whose state predicts this one.
        label_L: the token.
        response_L: which response of its :class:`Rollouts` it is of.
        offset_L: its place in that response, from 0.
    """

    rows: Rows
    predictor_L: Tensor
    label_L: Tensor
    response_L: Tensor
    offset_L: Tensor

    @classmethod
    def idle(cls, device: torch.device) -> Self:
        """No tokens, over rows that can be passed through a model."""
        none = torch.empty(0, dtype=torch.long, device=device)
        return cls(idle_rows(device), none, none, none, none)

    def of(self, value_NT: Tensor) -> Tensor:
        """The values of these tokens, (L,), from those of all."""
        return value_NT[self.response_L, self.offset_L]


@dataclass(slots=True)
class Rollouts:
    """The responses of one iteration.

    Args:
        prompt_tokens: tokens of each prompt, as the policy read it.
        response_tokens: tokens of each response, the one that ends it included if there is one.
        group: position of each response's prompt in the iteration.
        score_N: what the reward model gave, in its own units.
        length_N: tokens of each response.
        old_NT: log-probability of each token when it was drawn.
        reference_NT: the same under the reference.
        value_NT: what the critic expected before each token.
        advantage_NT: how much better than expected each token was, whitened.
        return_NT: what the values are to become.
    """

    prompt_tokens: list[Tokens]
    response_tokens: list[Tokens]
    group: list[int]
    score_N: Tensor
    length_N: Tensor
    old_NT: Tensor
    reference_NT: Tensor
    value_NT: Tensor
    advantage_NT: Tensor
    return_NT: Tensor

    @classmethod
    def of(
        cls,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        group: Sequence[int],
        score_N: Tensor,
    ) -> Self:
        """Responses of which nothing is known yet but their scores."""
        length_N = torch.tensor([len(one) for one in responses])
        shape = (len(responses), max(map(len, responses), default=0))
        blank = [torch.zeros(shape) for _ in range(5)]
        return cls(
            [np.asarray(one, np.int32) for one in prompts],
            [np.asarray(one, np.int32) for one in responses],
            list(group),
            score_N,
            length_N,
            *blank,
        )

    def __len__(self) -> int:
        return len(self.response_tokens)

    @property
    def own(self) -> Tensor:
        """Which of the tokens are a response's own, (N, T)."""
        return own_tokens(self.length_N, self.old_NT.shape[1])

    def whiten(self, advantage_NT: Tensor, spread: Moments) -> None:
        """Take these advantages less their mean and over their deviation; both are of all ranks' tokens."""
        whitened_NT = (advantage_NT - spread.mean) / max(spread.deviation, 1e-8)
        self.advantage_NT = torch.where(self.own, whitened_NT, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain lists and tensors."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("prompt_tokens", "response_tokens"):
            state[name] = [torch.from_numpy(one) for one in state[name]]
        return state

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The reverse of :meth:`state_dict`."""
        tokens = {name: [one.numpy() for one in state[name]] for name in ("prompt_tokens", "response_tokens")}
        return cls(**{**state, **tokens})

    def batches(self, packing: Packing, groups: Sequence[int] | None = None) -> Iterator[TokenBatch]:
        """Forward passes over the responses to some prompts, or to all; a prompt's are never split."""
        members: dict[int, list[int]] = {}
        for n, group in enumerate(self.group):
            members.setdefault(group, []).append(n)
        chosen = list(members) if groups is None else [g for g in groups if g in members]
        trees = [self._tree(members[g]) for g in chosen]
        for rows, order in packing.pack(trees):
            names = [n for tree in order for n in members[chosen[tree]]]
            yield _token_batch(rows, [trees[tree] for tree in order], names, packing.layout)

    def _tree(self, members: Sequence[int]) -> Tree:
        """The responses to one prompt."""
        branches = tuple(np.concatenate([self.prompt_tokens[n], self.response_tokens[n]]) for n in members)
        shared = shared_prefix(branches) if len(branches) > 1 else 0
        return Tree(branches, shared, tuple(len(self.prompt_tokens[n]) for n in members))


def _token_batch(rows: Rows, trees: Sequence[Tree], names: Sequence[int], layout: str) -> TokenBatch:
    predictor, label, response, offset = [], [], [], []
    branches = [
        (branch, tree.shared if layout == "shared" else 0, prompt)
        for tree in trees
        for branch, prompt in zip(tree.branches, tree.prompt_tokens, strict=True)
    ]
    starts, ends = rows.first_N.tolist(), rows.last_N.tolist()
    for name, (branch, shared, prompt), start, end in zip(names, branches, starts, ends, strict=True):
        # Where each token of the branch lies: in the prefix that it shares, or in its own part.
        place = np.arange(len(branch))
        place = np.where(place < shared, start + place, end - (len(branch) - 1) + place)
        begin = max(prompt, 1)
        predictor.append(place[begin - 1 : -1])
        label.append(branch[begin:].astype(np.int64))
        response.append(np.full(len(branch) - begin, name))
        offset.append(np.arange(begin - prompt, len(branch) - prompt))
    columns = [torch.from_numpy(np.concatenate(column)) for column in (predictor, label, response, offset)]
    return TokenBatch(rows, *columns)
