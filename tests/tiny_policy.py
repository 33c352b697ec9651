"""A tiny language model that answers, for tests of what draws its responses."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf_rm.data.template import render, set_template
from rlhf_rm.data.types import Message
from rlhf_rm.models.generate import Sampling
from rlhf_rm.models.tokenizer import train_byte_bpe

PROMPTS = [(Message("user", text),) for text in ("red one", "a much longer question, is it not?", "b")]
GREEDY = Sampling(max_new_tokens=9, temperature=0.0, top_p=1.0, repetition_penalty=1.0)
DRAWN = Sampling(max_new_tokens=9, temperature=1.0, top_p=1.0, repetition_penalty=1.0)


def tiny_tokenizer():
    made = train_byte_bpe(["red one question longer much"] * 3, vocab_size=280)
    set_template(made, "hh")
    return made


def tiny_policy(tokenizer, hidden=32, heads=4):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        hidden_size=hidden,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=heads,
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


def make_eos_likely(network, tokenizer):
    """EOS is now the likeliest after some tokens."""
    with torch.no_grad():
        weight = network.lm_head.weight
        weight[tokenizer.eos_token_id] = 3 * weight.mean(0) + 0.6


def assert_the_seed_decides(make):
    """``make(sampling)`` is a generator."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (make(DRAWN).responses(PROMPTS, 3, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len({one.ids for one in first[0]}) > 1
    # None of the draws of another seed are those of this one, shifted.
    assert not {one.ids for some in first for one in some} & {one.ids for some in other for one in some}
    assert torch.equal(torch.get_rng_state(), before)


def likeliest(network, tokenizer, prompt):
    """One token after the other, each by a whole pass."""
    text = render(tokenizer, [prompt], add_generation_prompt=True)[0]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    new = []
    while len(new) < 9 and tokenizer.eos_token_id not in new:
        with torch.inference_mode():
            new.append(int(network(torch.tensor([ids + new])).logits[0, -1].argmax()))
    return tuple(new)
