"""Rewards without learning: of preference pairs, and of single responses."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf_rm.data.batch import PairBatch, Step
from rlhf_rm.data.encode import Dialogue, DialogueEncoder
from rlhf_rm.data.packing import Packing, Tree, shared_prefix
from rlhf_rm.errors import UserError
from rlhf_rm.metrics.rewards import Rewards, RewardTable
from rlhf_rm.models.full_ensemble import FullEnsemble
from rlhf_rm.models.reward import RewardModel

# Responses of one prompt that are stored in one tree; more would make rows very long.
BRANCHES = 16


@torch.inference_mode()
def pair_rewards(
    model: RewardModel, steps: Iterable[Step[PairBatch]], advance: Callable[[int], Any] = lambda pairs: None
) -> Rewards:
    """Rewards of every pair, in the order of the split.

    Args:
        model: in evaluation mode.
        steps: of an evaluation loader.
        advance: called with the number of pairs done, for a progress bar.

    Raises:
        UserError: a reward is no finite number.
    """
    device = next(model.parameters()).device
    table = RewardTable()
    for step in steps:
        for pairs in step:
            reward_N = _finite(model(pairs.rows.to(device)).cpu())
            chosen_B, rejected_B = reward_N[pairs.chosen_B], reward_N[pairs.rejected_B]
            table.update(
                index=pairs.index_B,
                chosen=chosen_B,
                rejected=rejected_B,
                loss=-torch.nn.functional.logsigmoid(chosen_B - rejected_B),
                weight=torch.ones_like(chosen_B),
                chosen_tokens=pairs.rows.length_N[pairs.chosen_B],
                rejected_tokens=pairs.rows.length_N[pairs.rejected_B],
            )
            advance(pairs.examples)
    return table.rewards()


@torch.inference_mode()
def pair_differences(
    model: RewardModel | FullEnsemble,
    steps: Iterable[Step[PairBatch]],
    advance: Callable[[int], Any] = lambda pairs: None,
) -> Tensor:
    """r(chosen) − r(rejected) of every pair that is served by each member of a model, (M, B), in their order.

    One pass over the backbone, however many heads it has. See :func:`pair_rewards`.
    """
    device = next(model.parameters()).device
    index: list[Tensor] = []
    difference: list[Tensor] = []
    for step in steps:
        for pairs in step:
            scores_NM = _finite(model.scores(pairs.rows.to(device)).cpu())
            difference.append(scores_NM[pairs.chosen_B] - scores_NM[pairs.rejected_B])
            index.append(pairs.index_B)
            advance(pairs.examples)
    return torch.cat(difference)[torch.cat(index).argsort()].T


@torch.inference_mode()
def response_rewards(
    model: RewardModel,
    encoder: DialogueEncoder,
    packing: Packing,
    dialogues: Sequence[Dialogue],
    advance: Callable[[int], Any] = lambda responses: None,
) -> Tensor:
    """Reward of each response by each member of a model, (N, M), on the CPU; M is 1 but for an ensemble.

    Responses to one prompt share its tokens. A prompt that is too long is cut from the left whatever
    ``encoder.too_long`` says but ``error``: a score is asked of every response.

    Args:
        model: in evaluation mode.
        encoder: of the model's tokenizer.
        packing: how rows are filled.
        dialogues: prompts and responses.
        advance: called with the number of responses done, for a progress bar.

    Raises:
        UserError: a reward is no finite number.
    """
    device = next(model.parameters()).device
    encoded = encoder.encode(dialogues)
    groups: dict[Any, list[int]] = defaultdict(list)
    for i, (messages, _) in enumerate(dialogues):
        groups[tuple(messages)].append(i)
    bundles = [ids[at : at + BRANCHES] for ids in groups.values() for at in range(0, len(ids), BRANCHES)]
    rewards = torch.empty(len(dialogues), model.size)
    for at in range(0, len(bundles), 64):
        some = bundles[at : at + 64]
        trees = []
        for bundle in some:
            branches = tuple(encoded[i].ids for i in bundle)
            shared = shared_prefix(branches) if len(branches) > 1 else 0
            trees.append(Tree(branches, shared, tuple(encoded[i].prompt_tokens for i in bundle)))
        for rows, order in packing.pack(trees):
            where = [i for tree in order for i in some[tree]]
            rewards[where] = _finite(model.scores(rows.to(device)).cpu())
            advance(len(where))
    return rewards


def _finite(reward_N: Tensor) -> Tensor:
    bad = int((~torch.isfinite(reward_N)).sum())
    if bad:
        raise UserError(
            f"the model gives {bad} of {len(reward_N)} rewards that are no finite numbers (NaN or inf)."
        )
    return reward_N
