"""Sampling against a plain loop, and what it must not depend on."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf_rm.data.template import render, set_template
from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError
from rlhf_rm.models.generate import Generator, Sampling
from rlhf_rm.models.tokenizer import train_byte_bpe

PROMPTS = [(Message("user", text),) for text in ("red one", "a much longer question, is it not?", "b")]
GREEDY = Sampling(max_new_tokens=9, temperature=0.0, top_p=1.0, repetition_penalty=1.0)
DRAWN = Sampling(max_new_tokens=9, temperature=1.0, top_p=1.0, repetition_penalty=1.0)


@pytest.fixture
def tokenizer():
    made = train_byte_bpe(["red one question longer much"] * 3, vocab_size=280)
    set_template(made, "hh")
    return made


@pytest.fixture
def network(tokenizer):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        vocab_size=len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    made = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.4)
    return made.eval()


@pytest.fixture
def make(network, tokenizer):
    def make(sampling=GREEDY, max_length=200, batch_tokens=999):
        return Generator(network, tokenizer, sampling, max_length=max_length, batch_tokens=batch_tokens)

    return make


def likeliest(network, tokenizer, prompt):
    """One token after the other, each by a whole pass."""
    text = render(tokenizer, [prompt], add_generation_prompt=True)[0]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    new = []
    while len(new) < 9 and tokenizer.eos_token_id not in new:
        with torch.inference_mode():
            new.append(int(network(torch.tensor([ids + new])).logits[0, -1].argmax()))
    return tuple(new)


@pytest.mark.parametrize("batch_tokens", [1, 999])
def test_greedy_responses_are_those_of_a_plain_loop_in_any_batch(make, network, tokenizer, batch_tokens):
    found = make(batch_tokens=batch_tokens).responses(PROMPTS, 2, seed=1)
    for prompt, (first, second) in zip(PROMPTS, found, strict=True):
        assert first.ids == second.ids == likeliest(network, tokenizer, prompt)


def test_the_end_is_known_and_no_part_of_the_text(make, network, tokenizer):
    with torch.no_grad():  # EOS is now the likeliest after some tokens
        network.lm_head.weight[tokenizer.eos_token_id] = 3 * network.lm_head.weight.mean(0)
        network.lm_head.weight[tokenizer.eos_token_id] += 0.6
    found = [one for some in make(DRAWN).responses(PROMPTS, 8, seed=1) for one in some]
    assert {one.finished for one in found} == {True, False}
    for one in found:
        assert one.finished == (one.ids[-1] == tokenizer.eos_token_id)
        assert tokenizer.eos_token not in one.text and tokenizer.eos_token_id not in one.ids[:-1]
        assert one.finished or len(one.ids) == 9


def test_what_the_template_puts_before_a_response_is_no_part_of_it(make):
    assert make()._lead(PROMPTS[0]) == " "


def test_the_seed_decides_and_leaves_the_process_alone(make):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (make(DRAWN).responses(PROMPTS, 3, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len({one.ids for one in first[0]}) > 1
    assert torch.equal(torch.get_rng_state(), before)


def test_a_prompt_that_is_too_long_loses_its_beginning(make, tokenizer):
    generator = make(max_length=14)
    text = render(tokenizer, [PROMPTS[1]], add_generation_prompt=True)[0]
    (ids,) = generator._encode([PROMPTS[1]])
    assert len(ids) == 5 and text.endswith(tokenizer.decode(ids)) and generator.cut == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0 must be at least 1"),
        ({"temperature": -1.0}, "temperature=-1.0 at least 0"),
        ({"top_p": 0.0}, "top_p=0.0 above 0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0 must be above 0"),
    ],
)
def test_settings_are_checked(change, message):
    settings = {"max_new_tokens": 9, "temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0}
    with pytest.raises(UserError, match=message):
        Sampling(**settings | change)


def test_there_must_be_room_for_a_prompt(make):
    with pytest.raises(UserError, match="leaves no room for a prompt: the model takes 9 tokens"):
        make(max_length=9)


@pytest.mark.parametrize("shape", ["llama", "gpt2", "mistral", "gemma2"])
def test_reading_a_prompt_once_for_its_k_responses_changes_nothing(make, network, tokenizer, shape):
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
    generator = Generator(network, tokenizer, DRAWN, max_length=200, batch_tokens=999)
    once = generator.responses(PROMPTS, 3, seed=4)
    generator._read = lambda *prompts: None
    network.train()
    assert once == generator.responses(PROMPTS, 3, seed=4)
    assert len({one.ids for one in once[0]}) > 1
    assert network.training
