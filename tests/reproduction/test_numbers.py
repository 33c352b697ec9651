"""Numbers of a world from what its steps left, and from made-up histories."""

import json

import pytest

from rlhf_rm.errors import UserError
from rlhf_rm.reproduction.numbers import (
    late_numbers,
    round_numbers,
    slice_numbers,
    vote_numbers,
    world_numbers,
)


def test_a_vote_is_told_by_tenths_of_strength():
    mean = [float(i - 50) for i in range(100)]
    std = [abs(one) for one in mean]  # a U whose bottom is at 0
    shares = [0.1, 0.3, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
    summary = {"negative": 0.5, "agreement": [{"agreement": share} for share in shares]}
    found = vote_numbers(summary, mean, std)
    assert (found["agreement_weakest"], found["agreement_strongest"], found["negative"]) == (0.1, 0.99, 0.5)
    assert found["agreement_step"] == pytest.approx(-0.05)
    assert found["deviation_weakest"] == pytest.approx(45.5 - 2.5)
    assert found["deviation_strongest"] == pytest.approx(44.5 - 2.5)
    flat = vote_numbers(summary, mean, [1.0] * 100)
    assert flat["deviation_weakest"] == flat["deviation_strongest"] == 0
    empty = {"negative": 0.5, "agreement": [{"agreement": None}, *summary["agreement"][1:]]}
    assert "agreement_step" not in vote_numbers(empty, mean, std)


def test_tenths_are_told_by_those_that_were_trained_on():
    found = slice_numbers({1: 0.3, 5: 0.6, 8: 0.7, 9: 0.68, 10: 0.65}, 0.66)
    assert found["slice_weakest"] == 0.3
    assert found["slice_flipped"] == pytest.approx(0.66 - 0.7)
    assert found["slice_middle"] == pytest.approx(0.3) and found["slice_top"] == pytest.approx(-0.04)
    assert found["slice_order"] == pytest.approx(0.6)
    assert slice_numbers({2: 0.5}, None) == {}
    assert "slice_order" not in slice_numbers({1: 0.5, 2: 0.5}, None)


def test_over_optimisation_is_what_happens_in_the_second_half():
    reward, gold = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [0, 1, 2, 3, 4, 4, 3, 2, 1, 0]
    history = [{"reward": float(r), "gold": float(g)} for r, g in zip(reward, gold, strict=True)]
    assert late_numbers(history) == {"late_reward": 4.0, "late_gold": -3.5}
    assert late_numbers(history[:4]) == {}


def test_rounds_are_told_by_their_leads_and_by_what_the_reward_model_forgets():
    columns = {
        "win_minus_lose": [0.1, 0.3, 0.2],
        "accuracy_policy": [0.7, 0.6, 0.65],
        "accuracy_test": [0.8, 0.9, 0.7],
    }
    rows = [{name: values[i] for name, values in columns.items()} for i in range(3)]
    meta, vanilla = round_numbers(rows, "meta"), round_numbers(rows, "vanilla")
    assert meta["meta_lead"] == pytest.approx(0.2)
    assert meta["meta_test"] == pytest.approx(0.8)
    assert meta["meta_policy_change"] == vanilla["vanilla_policy_change"] == pytest.approx(-0.05)
    assert "meta_policy_change" not in round_numbers(rows[:1], "meta")


def write(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(value if isinstance(value, str) else json.dumps(value))


STEPS = ("plain", "denoised", "reward_shifted", "simcse_pairs_shifted", "vanilla", "meta", "slice_01")


def test_a_world_is_read_from_the_directories_of_its_steps(tmp_path):
    assert world_numbers(tmp_path, STEPS) == {}
    for name, accuracy, curve in (("plain", 0.7, (0.8, 0.72)), ("denoised", 0.85, (0.86, 0.855))):
        measured = {"sets": {"test": {"accuracy": accuracy}}, "validation": {}}
        write(tmp_path / name / "metrics.json", measured)
        write(tmp_path / name / "metrics.csv", f"step,val/accuracy_gold\n1,{curve[0]}\n2,{curve[1]}\n")
    for name, test, shifted in (("reward", 0.8, (0.7, 0.6)), ("simcse_pairs", 0.79, (0.72, 0.64))):
        sets = {"test": test, "style_heldout": shifted[0], "policy_heldout": shifted[1]}
        told = {one: {"accuracy": accuracy} for one, accuracy in sets.items()}
        write(tmp_path / f"{name}_shifted" / "evaluation.json", {"sets": told})
    said = {  # in the best round, the second of MetaRM and the first of plain, and in the other one
        "meta/round_01": [1.0, 2.0, 0.5, 3.0],
        "vanilla/round_00": [0.0, 2.0, 0.0, 4.0],
        "meta/round_00": [9.0] * 4,
        "vanilla/round_01": [-9.0] * 4,
    }
    for name, leads in (("meta", (0.3, 0.5)), ("vanilla", (0.4, 0.2))):
        rows = [
            {"round": i + 1, "win_minus_lose": lead, "accuracy_policy": 0.6, "accuracy_test": leads[0]}
            for i, lead in enumerate(leads)
        ]
        write(tmp_path / name / "rounds.json", {"planned": 2, "rounds": rows})
    for place, gold in said.items():
        rows = [{"prompt": p, "scores": gold[2 * i : 2 * i + 2]} for i, p in enumerate(("a\x85", "b\u2028"))]
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]  # these end no line of a file
        write(tmp_path / place / "answers" / "responses.jsonl", "\n".join(lines))
    write(tmp_path / "simcse_difference_shifted" / "evaluation.json", "of another plan")
    assert world_numbers(tmp_path, STEPS) == pytest.approx(
        {
            "plain_lost": 0.08,
            "denoised_lost": 0.005,
            "denoised_lost_less": 0.075,
            "denoised_gain": 0.15,
            "simcse_pairs_test": -0.01,
            "simcse_pairs_shifted": 0.03,
            "meta_lead": 0.4,
            "meta_test": 0.3,
            "meta_policy_change": 0.0,
            "vanilla_lead": 0.3,
            "vanilla_test": 0.4,
            "vanilla_policy_change": 0.0,
            "meta_against_vanilla": 0.25,
            "meta_test_gain": -0.1,
            "meta_policy_change_gain": 0.0,
        }
    )
    write(tmp_path / "vanilla/round_00/answers/responses.jsonl", "")
    with pytest.raises(UserError, match=r"vanilla/round_00/answers/responses\.jsonl does not hold"):
        world_numbers(tmp_path, STEPS)
    write(tmp_path / "meta" / "rounds.json", {"rows": []})
    with pytest.raises(UserError, match=r"meta/rounds\.json does not hold what this version reads"):
        world_numbers(tmp_path, STEPS)
