"""The numbers of one world, by name, from what the steps of `rlhf-rm paper` left.

The steps are directories: ``vote/vote``, ``slice_01`` and ``slice_01_flipped`` (the weakest tenth),
``plain``, ``denoised``, ``reward`` and one for each contrastive loss (each with ``NAME_shifted``),
``over_optimised``, ``vanilla`` and ``meta``. Of one that is not there no number is given.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from rlhf_rm.data.strengths import read_strengths
from rlhf_rm.judging.base import LOSE, WIN, by_score
from rlhf_rm.metrics.correlation import spearman
from rlhf_rm.report.inputs import expecting, read
from rlhf_rm.report.runs import read_run
from rlhf_rm.report.table import metric_of
from rlhf_rm.rounds.stage import round_name

Numbers = dict[str, float]
CLEAN = "val/accuracy_gold"
TENTHS = 10
FIFTHS = 5


def world_numbers(world: Path, steps: Collection[str]) -> Numbers:
    """Everything that was measured in a world.

    Args:
        world: its directory.
        steps: the names of its steps that are done; what else lies there is of another plan or of other
            settings, and is not read.

    Raises:
        UserError: a file is damaged.
    """
    there = {name: world / name for name in steps if (world / name).is_dir()}
    found: Numbers = {}
    for of_steps in (_vote, _slices, _denoised, _contrastive, _over_optimised, _rounds):
        found |= of_steps(there)
    return found


def vote_numbers(summary: Mapping[str, Any], mean: Sequence[float], std: Sequence[float]) -> Numbers:
    """Of a vote: how its labels agree with gold, and its deviation, by tenth of strength."""
    agreement = [row["agreement"] for row in summary["agreement"]]
    order = np.argsort(mean)
    tenth = max(1, len(order) // TENTHS)
    middle = np.argsort(np.abs(mean))[:tenth]
    deviation = np.asarray(std)
    undecided = float(deviation[middle].mean())
    found = {
        "negative": summary["negative"],
        "deviation_weakest": float(deviation[order[:tenth]].mean()) - undecided,
        "deviation_strongest": float(deviation[order[-tenth:]].mean()) - undecided,
    }
    if None not in agreement:
        steps = [after - before for before, after in pairwise(agreement)]
        found |= {
            "agreement_weakest": agreement[0],
            "agreement_strongest": agreement[-1],
            "agreement_step": min(steps),
        }
    return found


def slice_numbers(accuracy: Mapping[int, float], flipped: float | None) -> Numbers:
    """Of models that learnt from one tenth alone.

    Args:
        accuracy: by the number of the tenth, from 1, the weakest.
        flipped: of the weakest, with its labels turned.
    """
    found: Numbers = {}
    tenths = sorted(accuracy)
    others = [accuracy[one] for one in tenths if one > 1]
    if flipped is not None and others:
        found["slice_flipped"] = flipped - max(others)
    order = spearman(torch.tensor(tenths), torch.tensor([accuracy[one] for one in tenths]))
    if order is not None:
        found["slice_order"] = order
    if 1 in accuracy:
        found["slice_weakest"] = accuracy[1]
        if TENTHS // 2 in accuracy:
            found["slice_middle"] = accuracy[TENTHS // 2] - accuracy[1]
    before = [accuracy[one] for one in tenths if TENTHS // 2 < one < TENTHS]
    if TENTHS in accuracy and before:
        found["slice_top"] = accuracy[TENTHS] - fmean(before)
    return found


def late_numbers(history: Sequence[Mapping[str, float]]) -> Numbers:
    """Of PPO: what reward and gold did in its second half, the last fifth less the middle one."""
    if len(history) < FIFTHS:
        return {}
    fifth = len(history) // FIFTHS
    start = (len(history) - fifth) // 2
    return {
        f"late_{name}": fmean(one[name] for one in history[-fifth:])
        - fmean(one[name] for one in history[start : start + fifth])
        for name in ("reward", "gold")
    }


def round_numbers(rows: Sequence[Mapping[str, float]], of: str) -> Numbers:
    """Of rounds: the mean of their leads over SFT, and the reward model's accuracies."""
    on_policy = [row["accuracy_policy"] for row in rows]
    found = {f"{of}_lead": fmean(row["win_minus_lose"] for row in rows)}
    found[f"{of}_test"] = fmean(row["accuracy_test"] for row in rows)
    if len(rows) > 1:
        found[f"{of}_policy_change"] = on_policy[-1] - on_policy[0]
    return found


def head_to_head(ours: Path, theirs: Path) -> float:
    """Wins less losses by gold, as a share: the responses of one file against another's to the same prompts.

    Args:
        ours, theirs: JSON lines of ``prompt`` and ``scores``, as `sample` writes them with ``gold=true``.

    Raises:
        UserError: a file is damaged.
    """
    gold = []
    for file in (ours, theirs):
        # Line by line, not splitlines: texts may hold characters that it takes for the end of a line.
        with expecting(file), file.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
            gold.append({json.dumps(row["prompt"]): row["scores"] for row in rows})
    with expecting(theirs):
        differences = [
            a - b for prompt, some in gold[0].items() for a, b in zip(some, gold[1][prompt], strict=True)
        ]
        verdicts = by_score(torch.tensor(differences, dtype=torch.float64), tie=0.0)
        return fmean((one == WIN) - (one == LOSE) for one in verdicts)


def _vote(steps: Mapping[str, Path]) -> Numbers:
    if "vote" not in steps or not (steps["vote"] / "vote" / "manifest.json").is_file():
        return {}
    directory = steps["vote"] / "vote"
    strengths = read_strengths(directory)
    manifest = directory / "manifest.json"
    with expecting(manifest):
        return vote_numbers(read(manifest)["summary"], strengths.mean.tolist(), strengths.std.tolist())


def _slices(steps: Mapping[str, Path]) -> Numbers:
    found, flipped = {}, None
    for name, run in steps.items():
        number = re.fullmatch(r"slice_(\d+)", name)
        if number and (accuracy := _test_accuracy(run)) is not None:
            found[int(number[1])] = accuracy
        elif name == "slice_01_flipped":
            flipped = _test_accuracy(run)
    return slice_numbers(found, flipped) if found else {}


def _denoised(steps: Mapping[str, Path]) -> Numbers:
    found: Numbers = {}
    accuracy: Numbers = {}
    for name in ("plain", "denoised"):
        if name in steps and (test := _test_accuracy(steps[name])) is not None:
            accuracy[name] = test
            lost = metric_of(read_run(steps[name], {}), f"lost {CLEAN}")
            found |= {} if lost is None else {f"{name}_lost": lost}
    if len(accuracy) == 2:
        found["denoised_gain"] = accuracy["denoised"] - accuracy["plain"]
    if {"plain_lost", "denoised_lost"} <= set(found):
        found["denoised_lost_less"] = found["plain_lost"] - found["denoised_lost"]
    return found


def _contrastive(steps: Mapping[str, Path]) -> Numbers:
    measured = {name: _evaluated(path) for name, path in steps.items() if name.endswith("_shifted")}
    plain = measured.pop("reward_shifted", {})
    found: Numbers = {}
    for name, ours in measured.items():
        if ours and plain:
            found |= {f"{name.removesuffix('_shifted')}_{what}": ours[what] - plain[what] for what in plain}
    return found


def _evaluated(directory: Path) -> Numbers:
    file = directory / "evaluation.json"
    if not file.is_file():
        return {}
    with expecting(file):
        accuracy = {name: one["accuracy"] for name, one in read(file)["sets"].items()}
        test = accuracy.pop("test")
        return {"test": test, "shifted": fmean(accuracy.values())}


def _over_optimised(steps: Mapping[str, Path]) -> Numbers:
    if "over_optimised" not in steps or not (file := steps["over_optimised"] / "metrics.json").is_file():
        return {}
    with expecting(file):
        return late_numbers(read(file)["history"])


def _rounds(steps: Mapping[str, Path]) -> Numbers:
    found: Numbers = {}
    best: dict[str, Path] = {}
    for name in ("vanilla", "meta"):
        if name in steps and (file := steps[name] / "rounds.json").is_file():
            with expecting(file):
                told = read(file)
                if len(told["rounds"]) == told["planned"]:
                    found |= round_numbers(told["rounds"], name)
                    ahead = max(told["rounds"], key=lambda row: row["win_minus_lose"])
                    best[name] = steps[name] / round_name(ahead["round"]) / "answers" / "responses.jsonl"
    if len(best) == 2 and all(file.is_file() for file in best.values()):
        found["meta_against_vanilla"] = head_to_head(best["meta"], best["vanilla"])
    for what in ("test", "policy_change"):
        if {f"meta_{what}", f"vanilla_{what}"} <= set(found):
            gain = found[f"meta_{what}"] - found[f"vanilla_{what}"]
            found[f"meta_{what}_gain"] = gain
    return found


def _test_accuracy(run: Path) -> float | None:
    file = run / "metrics.json"
    if not file.is_file():
        return None
    with expecting(file):
        return float(read(file)["sets"]["test"]["accuracy"])
