"""`rlhf-rm sample` over real runs, from the command line."""

import json
import math

import pytest

from rlhf_rm.commands.sample import best_of_n_kl
from rlhf_rm.models.transformers_engine import TransformersEngine

FEW = ["sampling.max_new_tokens=8", "limit=5"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def policy(rlhf_rm, small, runs):
    if not (runs / "sft").exists():
        assert rlhf_rm("train", *small, "method=sft", f"hydra.run.dir={runs}/sft").code == 0
    return f"run={runs}/sft"


@pytest.fixture
def reward(rlhf_rm, small, runs):
    if not (runs / "reward").exists():
        assert rlhf_rm("train", *small, f"hydra.run.dir={runs}/reward").code == 0
    return runs / "reward"


def lines(file):
    with file.open() as rows:  # splitlines would take some characters of a text for the end of a line
        return [json.loads(row) for row in rows]


def test_k_responses_to_each_prompt(rlhf_rm, policy, tmp_path):
    ended = rlhf_rm("sample", policy, "k=3", *FEW, f"hydra.run.dir={tmp_path}")
    assert ended.code == 0, ended.err
    rows = lines(tmp_path / "samples.jsonl")
    assert len(rows) == 5 and all(len(row["responses"]) == len(row["finished"]) == 3 for row in rows)
    assert all(row["prompt"][-1]["role"] == "user" for row in rows)
    assert "15 responses to 5 prompts" in ended.out and f"samples  {tmp_path}" in ended.out
    again = rlhf_rm("sample", policy, "k=3", *FEW, f"output={tmp_path}/again.jsonl")
    assert again.code == 0 and lines(tmp_path / "again.jsonl") == rows


def test_the_best_of_k_is_the_one_that_score_likes_best(rlhf_rm, policy, reward, tmp_path):
    assert rlhf_rm("sample", policy, "k=4", *FEW, f"output={tmp_path}/all.jsonl").code == 0
    ended = rlhf_rm("sample", policy, "k=4", *FEW, f"best_of={reward}", f"output={tmp_path}/best.jsonl")
    assert ended.code == 0, ended.err
    everything, best = lines(tmp_path / "all.jsonl"), lines(tmp_path / "best.jsonl")
    flat = [{"prompt": row["prompt"], "response": one} for row in everything for one in row["responses"]]
    (tmp_path / "flat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in flat))
    files = [f"input={tmp_path}/flat.jsonl", f"output={tmp_path}/scored.jsonl"]
    assert rlhf_rm("score", f"run={reward}", *files).code == 0
    rewards = [row["reward"] for row in lines(tmp_path / "scored.jsonl")]
    for i, (whole, row) in enumerate(zip(everything, best, strict=True)):
        own = rewards[4 * i : 4 * i + 4]
        assert row["rewards"] == pytest.approx(own, abs=1e-5)
        assert row["responses"] == [whole["responses"][own.index(max(own))]]
    assert "is at most 0.64 nats from the policy" in ended.out


def test_the_kl_of_best_of_n():
    assert best_of_n_kl(1) == 0
    assert best_of_n_kl(4) == pytest.approx(math.log(4) - 0.75)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["run={runs}/sft", "k=0"], "k=0 is how many responses each prompt gets"),
        (["run={runs}/sft", "limit=0"], "limit=0 is how many prompts are answered: at least 1"),
        (["run={runs}/sft", "set=nope"], "set=nope is not in synthetic data: use one of train"),
        (["run={runs}/reward"], "not a language model: train one with `rlhf-rm train method=sft`"),
        (["run={runs}/sft", "sampling.max_new_tokens=9999"], "leaves no room for a prompt"),
        (["run={runs}/sft", "best_of={runs}/sft", "sampling.max_new_tokens=4"], "not a reward model"),
        (["run={runs}/sft", "best_of={runs}/none"], "none does not exist: name a run directory"),
        (["run={runs}/sft", "output={runs}"], "is a directory: name a file"),
        (
            ["run={runs}/sft", "output={runs}/pairs.jsonl/samples.jsonl"],
            "samples.jsonl cannot be written, since no file can be made in",
        ),
        (
            ["run={runs}/sft", "data=jsonl", "data.path={runs}/pairs.jsonl", "set=all", "gold=true"],
            "gold=true knows the truth of data=synthetic only, and not of jsonl data",
        ),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_drawn(
    rlhf_rm, policy, reward, runs, overrides, message, monkeypatch
):
    monkeypatch.setattr(TransformersEngine, "draw", lambda *args: pytest.fail("it was drawn"))
    pair = {"prompt": "q", "chosen": "a", "rejected": "b"}
    (runs / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    ended = rlhf_rm("sample", "limit=2", *(one.format(runs=runs) for one in overrides))
    assert ended.code == 2 and message in ended.err
    assert ended.err.count("\n") == 1
