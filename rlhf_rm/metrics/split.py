"""Everything that is said about the rewards of one split: the whole, its sources, and its prompts.

Shape legend: B preference pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlhf_rm.metrics.best_of_n import best_of_n, best_of_n_summary
from rlhf_rm.metrics.evaluation import evaluate_preferences
from rlhf_rm.metrics.rewardbench import rewardbench_sections
from rlhf_rm.metrics.rewards import Rewards

SOURCE_FIELDS = ("pairs", "accuracy", "accuracy_ci95", "ties")


def evaluate_split(
    rewards: Rewards,
    columns: Mapping[str, Sequence[Any]],
    keep: NDArray[np.bool_] | None = None,
    strengths: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """:func:`evaluate_preferences`, and what the columns of a split allow beyond it.

    Args:
        rewards: of every pair of the split, in its order.
        columns: of the split, (B,) each: ``prompt_id``, ``source``, and ``tree``, ``chosen``,
            ``rejected`` (which responses of which prompt a pair compares).
        keep: which pairs to measure, (B,); None measures all.
        strengths: mean strength of each pair, (B,), where they are known.

    Returns:
        Its fields; ``by_source`` with the pairs, accuracy, interval and ties of each source, where
        there are several; ``rewardbench`` where the sources are the subsets of RewardBench;
        ``best_of_n`` where prompts have more than two responses (see
        :func:`~rlhf_rm.metrics.best_of_n.best_of_n_summary`).
    """
    kept = rewards.index.numpy()[slice(None) if keep is None else keep]
    where = torch.from_numpy(np.flatnonzero(np.ones(len(rewards.index), bool) if keep is None else keep))
    prompt_id, source, tree, chosen, rejected = (
        np.asarray(columns[name])[kept] for name in ("prompt_id", "source", "tree", "chosen", "rejected")
    )

    def measure(some: NDArray[np.bool_], strengths: NDArray[np.float64] | None = None) -> dict[str, Any]:
        at = where[torch.from_numpy(some)]
        return evaluate_preferences(
            rewards.chosen[at],
            rewards.rejected[at],
            chosen_tokens=rewards.chosen_tokens[at],
            rejected_tokens=rewards.rejected_tokens[at],
            prompt_ids=prompt_id[some].tolist(),
            strengths=strengths,
        )

    result = measure(np.ones(len(kept), bool), None if strengths is None else strengths[kept])
    names = np.unique(source).tolist()
    if len(names) > 1:
        each = {name: measure(source == name) for name in names}
        result["by_source"] = {
            name: {field: one[field] for field in SOURCE_FIELDS} for name, one in each.items()
        }
        sections = rewardbench_sections({name: (one["pairs"], one["accuracy"]) for name, one in each.items()})
        if sections is not None:
            result["rewardbench"] = sections
    if len(kept) and max(chosen.max(), rejected.max()) > 1:
        right, chance = best_of_n(
            rewards.chosen[where],
            rewards.rejected[where],
            tree_B=tree,
            chosen_branch_B=chosen,
            rejected_branch_B=rejected,
        )
        result["best_of_n"] = best_of_n_summary(right, chance, seed=0)
    return result
