"""Sampling with vLLM against a plain loop, and with the weights as they are now."""

import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf_rm.errors import UserError
from rlhf_rm.models.adapter import LoRA
from rlhf_rm.models.generate import Generator
from rlhf_rm.models.vllm_engine import VllmEngine
from tests.tiny_policy import (
    DRAWN,
    GREEDY,
    PROMPTS,
    assert_the_seed_decides,
    likeliest,
    tiny_policy,
    tiny_tokenizer,
)

SETTINGS = {"memory_fraction": 0.05, "dtype": None, "eager": True}


@pytest.fixture(scope="module")
def engine():
    pytest.importorskip("vllm")
    with closing(VllmEngine(**SETTINGS)) as made:
        yield made


@pytest.fixture
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture
def network(tokenizer):
    return tiny_policy(tokenizer, hidden=64, heads=2)  # vLLM knows no heads of 8


@pytest.fixture
def make(network, tokenizer, engine):
    return lambda sampling: Generator(network, tokenizer, sampling, engine, max_length=200)


def test_greedy_responses_are_those_of_a_plain_loop(make, network, tokenizer):
    found = make(GREEDY).responses(PROMPTS, 2, seed=1)
    for prompt, (first, second) in zip(PROMPTS, found, strict=True):
        assert first.ids == second.ids == likeliest(network, tokenizer, prompt)


def test_it_draws_from_the_weights_as_they_are_now(make, network, tokenizer):
    before = make(GREEDY).responses(PROMPTS, 1, seed=1)
    with torch.no_grad():
        network.model.layers[1].mlp.down_proj.weight.mul_(-1)
    after = make(GREEDY).responses(PROMPTS, 1, seed=1)
    assert before != after
    assert [some[0].ids for some in after] == [likeliest(network, tokenizer, one) for one in PROMPTS]


def test_adapters_are_merged(make, network, tokenizer):
    LoRA(r=4, alpha=8, dropout=0.0, targets=None, top_layers=None, learning_rate=1e-3).apply(
        network, train_head=False
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.4)
    found = make(GREEDY).responses(PROMPTS, 1, seed=1)
    assert [some[0].ids for some in found] == [likeliest(network, tokenizer, one) for one in PROMPTS]


def test_the_seed_decides_and_leaves_the_process_alone(make):
    assert_the_seed_decides(make)


def test_responses_end_with_eos(make, network, tokenizer):
    with torch.no_grad():  # all tokens are about as likely, and one in 279 is EOS
        network.lm_head.weight.mul_(0.01)
    long = replace(DRAWN, max_new_tokens=150)
    found = [one for some in make(long).responses(PROMPTS, 8, seed=1) for one in some]
    assert {one.finished for one in found} == {True, False}
    assert all(one.finished == (one.ids[-1] == tokenizer.eos_token_id) for one in found)


def test_settings_that_vllm_does_not_know_are_refused(make):
    with pytest.raises(UserError, match="vLLM refuses these sampling settings: temperature must be"):
        make(replace(DRAWN, temperature=20.0)).responses(PROMPTS, 1, seed=1)


def test_a_model_that_vllm_does_not_know_is_refused(tokenizer):
    pytest.importorskip("vllm")
    config = AutoConfig.for_model("openai-gpt", n_embd=32, n_layer=1, n_head=4, vocab_size=len(tokenizer))
    network = AutoModelForCausalLM.from_config(config)
    generator = Generator(network, tokenizer, GREEDY, VllmEngine(**SETTINGS), max_length=200)
    with pytest.raises(
        UserError,
        match=r"vLLM does not start with this model \(openai-gpt\).*not supported.*engine=transformers",
    ):
        generator.responses(PROMPTS, 1, seed=1)


@pytest.fixture
def told(monkeypatch):
    """What vLLM is told, by a stand-in that always answers with token 5."""
    told = {}

    class LLM:
        def __init__(self, model, **options):
            told.update(options, files=[file.name for file in Path(model).iterdir()])

        def generate(self, prompts, settings, use_tqdm):
            told["settings"] = settings[0]
            answer = SimpleNamespace(token_ids=[5])
            return [SimpleNamespace(outputs=[answer] * one["n"]) for one in settings]

        def collective_rpc(self, method, kwargs):
            told["weights"] = dict(kwargs["weights_iterator"])

        def reset_prefix_cache(self):
            pass

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=dict))
    errors = SimpleNamespace(VLLMValidationError=ValueError)
    monkeypatch.setitem(sys.modules, "vllm.exceptions", errors)
    return told


def test_what_a_model_itself_says_of_sampling_is_not_told(network, tokenizer, told):
    network.generation_config.update(min_p=0.5, top_k=3, stop_strings=["a"])
    generator = Generator(network, tokenizer, DRAWN, VllmEngine(**SETTINGS), max_length=200)
    generator.responses(PROMPTS, 2, seed=1)
    assert told["generation_config"] == "vllm" and told["files"] == ["config.json"]
    assert not told["settings"].keys() & {"min_p", "top_k", "stop"}


def test_what_ends_a_response_is_told(network, tokenizer, told):
    network.generation_config.eos_token_id = [5, tokenizer.eos_token_id]
    network.config.eos_token_id = 7  # which vLLM would take from there
    generator = Generator(network, tokenizer, DRAWN, VllmEngine(**SETTINGS), max_length=200)
    found = generator.responses(PROMPTS, 2, seed=1)
    assert told["settings"]["stop_token_ids"] == [tokenizer.eos_token_id, 5]
    assert told["settings"]["ignore_eos"]
    assert all(one.finished and one.ids == (5,) and not one.text for some in found for one in some)


def test_without_vllm_it_says_what_to_install(network, tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    generator = Generator(network, tokenizer, GREEDY, VllmEngine(**SETTINGS), max_length=200)
    with pytest.raises(UserError, match="pip install vllm, or use engine=transformers"):
        generator.responses(PROMPTS, 1, seed=1)


def test_the_share_of_memory_is_checked():
    with pytest.raises(UserError, match=r"memory_fraction=0 must be above 0 and at most 1"):
        VllmEngine(**SETTINGS | {"memory_fraction": 0})
