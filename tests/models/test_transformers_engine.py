"""Sampling against a plain loop, and what it must not depend on."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf_rm.models import transformers_engine
from rlhf_rm.models.generate import Generator
from rlhf_rm.models.transformers_engine import TransformersEngine
from tests.tiny_policy import (
    DRAWN,
    GREEDY,
    PROMPTS,
    assert_the_seed_decides,
    likeliest,
    make_eos_likely,
)


@pytest.fixture
def make(network, tokenizer):
    def make(sampling, batch_tokens=999):
        return Generator(network, tokenizer, sampling, TransformersEngine(batch_tokens), max_length=200)

    return make


@pytest.mark.parametrize("batch_tokens", [1, 999])
def test_greedy_responses_are_those_of_a_plain_loop_in_any_batch(make, network, tokenizer, batch_tokens):
    found = make(GREEDY, batch_tokens).responses(PROMPTS, 2, seed=1)
    for prompt, (first, second) in zip(PROMPTS, found, strict=True):
        assert first.ids == second.ids == likeliest(network, tokenizer, prompt)


def test_the_seed_decides_and_leaves_the_process_alone(make):
    assert_the_seed_decides(make)


OWN_SETTINGS = {
    "min_p": 0.5,
    "typical_p": 0.3,
    "epsilon_cutoff": 0.05,
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 8,
    "num_beams": 3,
    "num_return_sequences": 2,
    "stop_strings": ["a"],
    "cache_implementation": "static",
}


@pytest.mark.parametrize(("name", "value"), OWN_SETTINGS.items(), ids=OWN_SETTINGS)
def test_what_a_model_itself_says_of_sampling_decides_nothing(make, network, tokenizer, name, value):
    make_eos_likely(network, tokenizer)
    expected = make(DRAWN).responses(PROMPTS, 4, seed=3)
    setattr(network.generation_config, name, value)
    own = network.generation_config
    assert make(DRAWN).responses(PROMPTS, 4, seed=3) == expected
    assert network.generation_config is own and getattr(own, name) == value


@pytest.mark.parametrize("shape", ["llama", "gpt2", "mistral", "gemma2"])
def test_reading_a_prompt_once_for_its_k_responses_changes_nothing(network, tokenizer, shape, monkeypatch):
    if shape != "llama":
        small = {"n_embd": 32, "n_layer": 2, "n_head": 4} if shape == "gpt2" else {}
        sizes = {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "sliding_window": 5,
        }
        torch.manual_seed(0)
        config = AutoConfig.for_model(
            shape,
            **small or sizes,
            vocab_size=len(tokenizer),
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
        network = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    generator = Generator(network, tokenizer, DRAWN, TransformersEngine(999), max_length=200)
    once = generator.responses(PROMPTS, 3, seed=4)
    monkeypatch.setattr(transformers_engine, "_read", lambda *prompts: None)
    network.train()
    assert once == generator.responses(PROMPTS, 3, seed=4)
    assert len({one.ids for one in once[0]}) > 1
    assert network.training
