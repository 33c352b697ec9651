import os
import subprocess
import sys
from itertools import combinations

import pytest

from rlhf_rm.data.types import Message
from rlhf_rm.data.world.source import WorldSource
from rlhf_rm.data.world.splits import SHIFTED, SPLITS
from rlhf_rm.data.world.tasks import HELD_OUT, read_task
from rlhf_rm.errors import UserError

DEMONSTRATED = ("train", "validation", "test")


def differences(world, split):
    return [pair.notes["gold_chosen"] - pair.notes["gold_rejected"] for pair in world.pairs(split)]


def test_the_same_seed_gives_the_same_bytes_in_another_process(small):
    code = (
        "from rlhf_rm.data.world.source import WorldSource as W;"
        "w = W(seed=0, train_pairs=301, validation_pairs=40, test_pairs=40, shifted_pairs=20,"
        " demonstrations=300, flip_rate=0.0); print(w.fingerprint(), w.demonstrations_fingerprint())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    here = small()
    here.pairs("test")  # another order of use
    assert [here.fingerprint(), here.demonstrations_fingerprint()] == there


def test_another_seed_is_another_world(small):
    one, two = small(seed=0), small(seed=1)
    assert one.fingerprint() != two.fingerprint()
    asked = (Message("user", "Where does Mira live?"),)
    homes = {small(seed=seed).best_response(asked) for seed in range(8)}
    assert len(homes) > 1


def test_label_noise_and_ambiguity_are_as_pinned(world):
    train = differences(world, "train")
    assert 0.12 <= sum(d < 0 for d in train) / len(train) <= 0.20
    # A probability between 0.4 and 0.6 is a gold difference below ln 1.5.
    assert sum(abs(d) < 0.405 for d in train) / len(train) >= 0.10
    assert world.report()["label_noise"] == sum(d < 0 for d in train) / len(train)
    assert 0.08 <= sum(d < 0 for d in differences(world, "validation")) / 500 <= 0.24


@pytest.mark.parametrize("split", ["test", *SHIFTED])
def test_labels_for_testing_are_clean_and_without_ties(world, split):
    assert min(differences(world, split)) > 0


def test_notes_hold_the_gold_of_the_responses(world):
    for pair in world.pairs("train")[:200]:
        assert pair.notes["gold_chosen"] == world.gold(pair.messages, pair.chosen)
        assert pair.notes["gold_rejected"] == world.gold(pair.messages, pair.rejected)
        assert pair.notes["label_noise"] == float(pair.notes["gold_chosen"] < pair.notes["gold_rejected"])
        assert pair.chosen != pair.rejected


@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_flip_rate_swaps_exactly_that_share_of_training_labels_alone(small, rate):
    plain, flipped = small(), small(flip_rate=rate)
    swapped = 0
    for before, after in zip(plain.pairs("train"), flipped.pairs("train"), strict=True):
        assert before.messages == after.messages
        if after.notes["flipped"]:
            swapped += 1
            assert (after.chosen, after.rejected) == (before.rejected, before.chosen)
            assert after.notes["gold_chosen"] == before.notes["gold_rejected"]
        else:
            assert after == before
    assert swapped == round(rate * 301)
    for split in SPLITS[1:]:
        assert flipped.pairs(split) == plain.pairs(split)
    assert flipped.demonstrations_fingerprint() == plain.demonstrations_fingerprint()


@pytest.mark.parametrize("change", [{"flip_rate": 1.5}, {"flip_rate": float("nan")}, {"test_pairs": 0}])
def test_impossible_sizes_are_refused(change):
    sizes = dict.fromkeys(("train_pairs", "validation_pairs", "test_pairs", "shifted_pairs"), 2)
    with pytest.raises(UserError):
        WorldSource(**{"seed": 0, **sizes, "demonstrations": 2, "flip_rate": 0.0, **change})


def test_no_prompt_is_in_two_splits(world):
    prompts = {split: set(world.prompts(split)) for split in SPLITS}
    for one, two in combinations(SPLITS, 2):
        assert not prompts[one] & prompts[two], (one, two)


def test_demonstrations_of_training_ask_nothing_that_is_tested(world):
    demonstrated = {dialogue[:-1] for dialogue in world.demonstrations("train")}
    for split in SPLITS[1:]:
        assert not demonstrated & set(world.prompts(split)), split


def test_no_training_pair_names_a_new_topic(world):
    new = {name for names in HELD_OUT.values() for name in names}
    for pair in world.pairs("train"):
        text = " ".join([*(m.content for m in pair.messages), pair.chosen, pair.rejected])
        assert new.isdisjoint(text.replace(".", " ").replace("?", " ").replace(",", " ").split())
    for pair in world.pairs("topics_dev"):
        assert read_task(pair.messages).entity in new


def test_demonstrations_answer_every_fact_rightly_most_of_the_time_and_leave_room(world):
    right: dict[tuple[str, str], list[bool]] = {}
    golds, best = [], []
    for *prompt, response in world.demonstrations("train"):
        task = read_task(prompt)
        golds.append(world.gold(prompt, response.content))
        best.append(world.gold(prompt, world.best_response(prompt)))
        if task.entity:
            answer = world.gold_attributes(prompt, response.content)["answer"]
            right.setdefault((task.entity, task.relation), []).append(answer == 1)
    assert len(right) == world.report()["facts"] >= 200
    assert sum(sum(r) > len(r) / 2 for r in right.values()) > 0.95 * len(right)
    assert sum(golds) <= 0.70 * sum(best)


def test_k_responses_are_distinct_and_carry_their_gold(small):
    world = small()
    for split in ("train", "policy_dev"):
        groups = world.responses(split, 5)
        assert [group.messages for group in groups] == world.prompts(split)
        for group in groups[:50]:
            assert len(set(group.responses)) == 5
            assert group.golds == tuple(world.gold(group.messages, r) for r in group.responses)


def test_many_responses_are_found_and_too_many_refused(small):
    assert all(len(set(g.responses)) == 64 for g in small().responses("policy_dev", 64))
    with pytest.raises(UserError, match="1 to 64"):
        small().responses("train", 65)


def test_unknown_splits_and_foreign_prompts_are_refused(small):
    with pytest.raises(UserError, match="no split 'tset'"):
        small().pairs("tset")
    with pytest.raises(UserError, match="not a prompt of the synthetic world"):
        small().best_response((Message("user", "How do bees fly?"),))
