"""What commands leave, written by hand: as real as a report needs, and in no time."""

import json

import numpy as np
import torch

from rlhf_rm.data.strengths import from_members, write_strengths
from rlhf_rm.data.worth_reading import Text, worth_reading, write_worth_reading
from rlhf_rm.files import sha256, write_json
from rlhf_rm.metrics.drawn import drawn
from rlhf_rm.metrics.embedding import projected
from rlhf_rm.metrics.evaluation import evaluate_preferences
from rlhf_rm.metrics.rewards import Rewards
from rlhf_rm.metrics.shifted import ShiftedRewards, spread
from rlhf_rm.voting.summary import summarise

EVIL = "<script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"
LONG = "word" * 200  # without a space to break at
PAIRS = 300


def rewards(seed, pairs=PAIRS):
    generator = torch.Generator().manual_seed(seed)
    chosen, rejected = torch.randn(2, pairs, generator=generator)
    ones = torch.ones(pairs)
    tokens = torch.randint(1, 60, (2, pairs), generator=generator)
    return Rewards(torch.arange(pairs), chosen + 0.8, rejected, ones, ones, *tokens)


def measured(found):
    return evaluate_preferences(
        found.chosen,
        found.rejected,
        chosen_tokens=found.chosen_tokens,
        rejected_tokens=found.rejected_tokens,
        prompt_ids=[str(i) for i in range(len(found.chosen))],
    )


def write_texts(directory, difference, std=None):
    texts = lambda row: Text(f"{row} <b>", f"{EVIL} {LONG}", f"chosen {EVIL}", "")  # noqa: E731
    write_worth_reading(directory, worth_reading(difference, std, texts))


def write_run(directory, seed=1, method=None, overrides=(), embedded=False, shifted=False, known="gold"):
    """A reward model's run, of which the numbers are chance."""
    found = rewards(seed)
    shown = {"sets": {"test": drawn(found)}}
    generator = torch.Generator().manual_seed(seed)
    if embedded:
        states = torch.randn(4, 40, 8, generator=generator)
        shown["embedding"] = projected((states[0], states[1]), (states[2] + 1, states[3]))
    if shifted:
        shown["shifted"] = spread(shifted_rewards(seed, 1.0), shifted_rewards(seed, 2.0))
    best = {"accuracy": 0.6, "accuracy_ci95": [0.5, 0.7], "chance": 0.25}
    test = measured(found) | {"loss": 0.5, "best_of_n": best}
    encoded = {"pairs": 24_900, "prompts": 24_900, "pairs_too_long": 3, "mean_shared": 20.5}
    results = {
        "sets": {"test": test},
        "validation": {"val/accuracy": 0.7, f"val/accuracy_{known}": 0.8 + seed / 100, "val/loss": 0.5},
        "steps": 60,
        "tested_step": 60,
        "unit": "pairs",
        "examples_per_second": 1234.5,
        "data": {"encoded": dict.fromkeys(("train", "validation", "test"), encoded)},
    }
    write_started(directory, [f"seed={seed}", *([f"method={method}"] if method else []), *overrides])
    write_json(directory / "metrics.json", results)
    write_json(directory / "figures.json", shown)
    write_texts(directory, (found.chosen - found.rejected).double().numpy())
    rows = [f"{step},{0.5 + step / 200},{0.7 - step / 400},,," for step in range(10, 61)]
    rows += [f"{step},,,{0.6 + step / 500},{0.7 + seed / 100},0.6" for step in (61, 121)]
    head = f"step,train/accuracy,train/loss,val/accuracy,val/accuracy_{known},val/loss"
    (directory / "metrics.csv").write_text("\n".join([head, *rows]) + "\n")
    return directory


def write_policy(directory, seed=1, gold=True):
    """A run of PPO that gains reward for ever and gold at first."""
    told = [
        {"step": step, "reward": step / 10, "kl": step / 5, "length": 20.0, "explained_variance": 0.3}
        | ({"gold": 1 - (step - 15) ** 2 / 300} if gold else {})
        for step in range(0, 40, 2)
    ]
    test = {"prompts": 12, "reward": 3.0, "reward_ci95": [2.5, 3.5], "reward_reference": 0.5, "length": 20.0}
    test |= {"gold": 0.4, "gold_ci95": [0.3, 0.5], "gold_reference": 0.3} if gold else {}
    write_started(directory, [f"seed={seed}", "method=ppo"])
    results = {"sets": {"test": test}, "history": told, "validation": {}, "steps": 40, "unit": "prompts"}
    write_json(directory / "metrics.json", results)
    head = "step,train/kl,train/reward" + ",train/gold" * gold
    rows = [f"{one['step']},{one['kl']},{one['reward']}" + f",{one.get('gold')}" * gold for one in told]
    (directory / "metrics.csv").write_text("\n".join([head, *rows]) + "\n")
    return directory


def shifted_rewards(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    first, second, gold = scale * torch.randn(3, 100, generator=generator)
    return ShiftedRewards(first, second, torch.full((100,), 0.08), gold, torch.zeros(100), 10)


def write_started(directory, overrides):
    directory.mkdir(parents=True)
    (directory / "overrides.yaml").write_text(json.dumps(list(overrides)))
    told = dict(one.split("=", 1) for one in overrides if "=" in one)
    config = {"seed": int(told.get("seed", 1)), "data": {"seed": int(told.get("data.seed", 0))}}
    (directory / "config.yaml").write_text(json.dumps(config))


def write_vote(directory, gold=True, members=4):
    generator = np.random.default_rng(0)
    truth = generator.normal(0.6, 1, PAIRS)
    given = from_members(
        [str(i) for i in range(PAIRS)], truth + generator.normal(0, 0.3, (members, PAIRS)) * (1 + abs(truth))
    )
    directory.mkdir(parents=True)
    notes = {"gold_chosen": truth, "gold_rejected": np.zeros(PAIRS)} if gold else {}
    file = write_strengths(directory, given)
    about = {"strengths": sha256(file), "members": [[]] * members, "summary": summarise(given, notes)}
    write_json(directory / "manifest.json", about)
    write_texts(directory, given.mean, given.std)
    return directory


def write_rounds(directory, rounds=3):
    rows = []
    for number in range(1, rounds + 1):
        shares = {"win": 0.4 + number / 20, "tie": 0.2, "lose": 0.4 - number / 20}
        apart = spread(shifted_rewards(number, 1.0), shifted_rewards(number, 1.5))
        rows.append(
            {
                "round": number,
                **shares,
                "win_minus_lose": shares["win"] - shares["lose"],
                "win_minus_lose_ci95": [0.0, 0.3],
                "gold": 0.3 + number / 20,
                "reward": float(number),
                "accuracy_policy": 0.7,
                "accuracy_policy_ci95": [0.6, 0.8],
                "accuracy_test": 0.8,
                "accuracy_test_ci95": None,
                "spread": 0.5,
                "apart": {when: apart[when]["quantiles"] for when in ("before", "after")},
            }
        )
        write_policy(directory / f"round_{number - 1:02d}" / "policy", number)
    write_json(directory / "rounds.json", {"method": "meta", "planned": len(rows), "rounds": rows})
    return directory


def write_evaluation(directory, sets=("test", "style_dev"), strengths=True):
    found = {name: rewards(number) for number, name in enumerate(sets)}
    told = {name: measured(one) for name, one in found.items()}
    if strengths:
        bins = [{"pairs": 30, "accuracy": number / 10, "strengths": [0, 1]} for number in range(9)]
        told[sets[0]]["by_strength"] = [*bins, {"pairs": 0, "accuracy": None, "strengths": None}]
    write_json(directory / "evaluation.json", {"run": "runs/one", "sets": told})
    write_json(directory / "figures.json", {"sets": {name: drawn(one) for name, one in found.items()}})
    return directory


def write_judgement(directory):
    shares = {"win": 0.5, "tie": 0.2, "lose": 0.25, "no_answer": 0.05}
    told = {name: {"share": share, "count": int(100 * share), "ci95": None} for name, share in shares.items()}
    lead = {"share": 0.25, "ci95": [0.1, 0.4]}
    about = {"a": "x/a.jsonl", "b": "x/b.jsonl", "judge": "GoldJudge", "comparisons": 100}
    write_json(directory / "judgement.json", {**about, **told, "win_minus_lose": lead})
    return directory
