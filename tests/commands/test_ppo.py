"""`method=ppo` and `method=sft` from the command line."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_rm.commands.policy import actor_critic
from rlhf_rm.models.adapter import NoAdapter
from rlhf_rm.models.attention.sdpa import SDPAAttention
from rlhf_rm.models.spec import ModelSpec
from tests.tiny_policy import tiny_policy, tiny_tokenizer

PPO = ["method=ppo", "sampling.max_new_tokens=8"]


def lines(file):
    with file.open() as rows:  # splitlines would take some characters of a text for the end of a line
        return [json.loads(row) for row in rows]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def test_the_world_makes_its_reward_model_once_and_the_policy_is_exported(rlhf_rm, small, tmp_path, cache):
    ended = rlhf_rm("train", *small, *PPO, f"hydra.run.dir={tmp_path}/a")
    assert ended.code == 0, ended.err
    assert "gold reward before" in ended.out
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    test = metrics["sets"]["test"]
    assert {"reward", "gold", "gold_ci95", "length", "reward_reference"} <= set(test)
    low, high = test["finished_ci95"]
    assert 0 <= low < high <= 1
    history = lines(tmp_path / "a" / "history.jsonl")
    assert [one["step"] for one in history] == [one["step"] for one in metrics["history"]] == [0]
    assert {"prompt", "response", "reward", "gold", "kl"} <= set(history[0]["texts"][0])
    assert (tmp_path / "a" / "train_curves.png").stat().st_size > 10_000
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "a" / "export").num_parameters() > 0
    judged = rlhf_rm(
        "judge",
        f"a={tmp_path}/a/samples.jsonl",
        f"b={tmp_path}/a/samples_reference.jsonl",
        "judge=gold",
        *[one for one in small if one.startswith("data.")],
        f"hydra.run.dir={tmp_path}/judged",
    )
    assert judged.code == 0, judged.err
    verdict = json.loads((tmp_path / "judged" / "judgement.json").read_text())
    assert verdict["comparisons"] == len(lines(tmp_path / "a" / "samples.jsonl")) == test["prompts"]
    run = f"run={tmp_path}/a"
    assert rlhf_rm("sample", run, "sampling.max_new_tokens=4", "limit=2", f"output={tmp_path}/s").code == 0
    made = {path: path.stat().st_mtime_ns for path in Path(cache).glob("reward/*/config.json")}
    assert made
    again = rlhf_rm("train", *small, *PPO, f"hydra.run.dir={tmp_path}/b")
    assert again.code == 0, again.err
    assert {path: path.stat().st_mtime_ns for path in Path(cache).glob("reward/*/config.json")} == made
    assert lines(tmp_path / "b" / "history.jsonl")[0]["texts"] == history[0]["texts"]


def test_a_policy_with_adapters_learns_from_a_whole_reward_model(rlhf_rm, small, tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_RM_CACHE", str(tmp_path / "cache"))
    ended = rlhf_rm("train", *small, *PPO, "adapter=lora", f"hydra.run.dir={tmp_path}/a")
    assert ended.code == 0, ended.err
    (made,) = (tmp_path / "cache" / "reward").glob("*/model.safetensors")
    assert not [name for name in load_file(made) if "lora" in name or "base_layer" in name]


def test_a_policy_and_several_reward_models_can_be_named(rlhf_rm, small, tmp_path):
    for name, options in (("sft", ["method=sft"]), ("r1", ["seed=1"]), ("r2", ["seed=2"])):
        assert rlhf_rm("train", *small, *options, f"hydra.run.dir={tmp_path}/{name}").code == 0
    texts = lines(tmp_path / "sft" / "history.jsonl")[-1]["texts"]
    assert {"prompt", "response"} == set(texts[0])
    policy = [f"model.path={tmp_path}/sft", "model.architecture=null", "model.vocab_size=null"]
    rewards = [f"ppo.reward=[{tmp_path}/r1,{tmp_path}/r2]", "ppo.pool=cautious"]
    options = [*small, *PPO, *policy, *rewards, "adapter=lora", "ppo.k=2"]
    ended = rlhf_rm("train", *options, f"hydra.run.dir={tmp_path}/ppo")
    assert ended.code == 0, ended.err
    assert (tmp_path / "ppo" / "export" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["base.enabled=false"], "ppo.reward names no reward model"),
        (["ppo.pool=best"], "ppo.pool=best must be one of mean, worst, cautious"),
        (["ppo.critic=me"], "ppo.critic=me is unknown"),
        (["ppo.k=1.5"], "ppo.k=1.5 must be a whole number of at least 1"),
        (["ppo.pretraining_dialogues=2"], "and ppo.objective.text_weight=0.0 go together"),
        (["ppo.objective.text_weight=1"], "ppo.pretraining_dialogues=0 and"),
        (["ppo.shaping.kl_target=0"], "ppo.shaping.kl_target=0 must be a number above 0, or null"),
        (["ppo.objective.clip=-0.2"], "ppo.objective.clip=-0.2 must be a number above 0"),
        (["sampling.top_p=0"], "sampling.top_p=0 must be a number above 0 and at most 1"),
        (["sampling.temperature=nan"], "sampling.temperature=nan must be a number of at least 0"),
        (["sampling.temperature=0"], "nothing is learnt from that"),
        (["sampling.max_new_tokens=600"], "leaves no room for a prompt"),
        (["denoise=flip", "denoise.strengths=x"], "which this method does not read"),
    ],
)
def test_bad_settings_are_refused(rlhf_rm, small, tmp_path, overrides, words):
    ended = rlhf_rm("train", *small, *PPO, *overrides, f"hydra.run.dir={tmp_path}")
    assert ended.code == 2
    assert words in ended.err


def test_a_critic_cannot_start_from_an_encoder(rlhf_rm, small, tmp_path):
    bert = ["model.architecture.model_type=bert", "base.enabled=false"]
    ended = rlhf_rm("train", *small, *bert, f"hydra.run.dir={tmp_path}/bert")
    assert ended.code == 0, ended.err
    for critic, code in (("reward", 2), ("auto", 0)):
        options = [*small, *PPO, f"ppo.reward={tmp_path}/bert", f"ppo.critic={critic}"]
        ended = rlhf_rm("train", *options, f"hydra.run.dir={tmp_path}/{critic}")
        assert ended.code == code, ended.err
        assert "it reads a response as a whole" in ended.err + ended.out


def test_a_critic_is_trained_in_the_precision_of_the_policy(tmp_path):
    tokenizer = tiny_tokenizer()
    policy = tiny_policy(tokenizer)
    policy.config.num_labels = 1
    reward = AutoModelForSequenceClassification.from_config(policy.config).to(torch.bfloat16)
    for made, name in ((policy, "policy"), (reward, "reward")):
        made.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    spec = ModelSpec(
        path=str(tmp_path / "policy"),
        architecture=None,
        vocab_size=None,
        template="auto",
        max_length=128,
        dtype="float32",
        gradient_checkpointing=False,
        compile=False,
        learning_rate=1e-6,
        trust_remote_code=False,
        adapter=NoAdapter(1e-6),
    )
    named = {"reward": str(tmp_path / "reward"), "critic": "reward", "trust_remote_code": False}
    made = actor_critic(spec, spec.tokenizer(None), SDPAAttention(), **named)
    # In bfloat16 a small step would leave most weights as they are.
    assert {p.dtype for p in made.critic.parameters()} == {torch.float32}
