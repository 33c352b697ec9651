"""What responses are, whatever draws them."""

import pytest
import torch

from rlhf_rm.data.template import render
from rlhf_rm.errors import UserError
from rlhf_rm.models.generate import Generator, Sampling
from rlhf_rm.models.transformers_engine import TransformersEngine
from tests.tiny_policy import DRAWN, GREEDY, PROMPTS, make_eos_likely


@pytest.fixture
def make(network, tokenizer):
    def make(sampling=GREEDY, max_length=200):
        return Generator(network, tokenizer, sampling, TransformersEngine(999), max_length=max_length)

    return make


def test_the_end_is_known_and_no_part_of_the_text(make, network, tokenizer):
    make_eos_likely(network, tokenizer)
    found = [one for some in make(DRAWN).responses(PROMPTS, 8, seed=1) for one in some]
    assert {one.finished for one in found} == {True, False}
    for one in found:
        assert one.finished == (one.ids[-1] == tokenizer.eos_token_id)
        assert tokenizer.eos_token not in one.text and tokenizer.eos_token_id not in one.ids[:-1]
        assert one.finished or len(one.ids) == 9


@pytest.mark.parametrize("named", [9, [1, 9]], ids=["one", "several"])
def test_a_response_ends_with_whatever_its_model_ends_with(make, network, tokenizer, named):
    assert tokenizer.eos_token_id == 1 and tokenizer.decode([9])
    make_eos_likely(network, tokenizer)
    with torch.no_grad():
        network.lm_head.weight[9] = network.lm_head.weight[1] + 0.01 * network.lm_head.weight[0]
    network.generation_config.eos_token_id = named
    found = [one for some in make(DRAWN).responses(PROMPTS, 12, seed=1) for one in some]
    last = [one.ids[-1] for one in found]
    assert {1, 9} < set(last)
    assert [one.finished for one in found] == [token in (1, 9) for token in last]
    assert not {1, 9} & {token for one in found for token in one.ids[:-1]}
    for one in found:
        assert one.text == tokenizer.decode(one.ids[:-1] if one.finished else one.ids).removeprefix(" ")


def test_what_the_template_puts_before_a_response_is_no_part_of_it(make):
    assert make()._lead(PROMPTS[0]) == " "


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
