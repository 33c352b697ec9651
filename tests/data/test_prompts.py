"""Which prompts are answered when, and which answers are learnt from in which step."""

from collections import Counter
from itertools import islice

import pytest

from rlhf_rm.data.prompts import IterationSampler, PromptDataModule
from rlhf_rm.data.sampling import StepSampler
from rlhf_rm.errors import UserError

SETTINGS = {
    "layout": "shared",
    "max_length": 60,
    "too_long": "truncate_prompt_left",
    "batch_size": 3,
    "eval_batch_size": 4,
    "row_tokens": 64,
    "micro_tokens": 64,
    "row_multiple": 1,
    "workers": 0,
    "seed": 3,
    "minibatches": 2,
    "passes": 2,
    "max_new_tokens": 30,
    "texts": 0,
    "evaluated": 5,
}


def sampler(done=0, minibatches=3, passes=2):
    steps = minibatches * passes
    prompts = StepSampler([1] * 25, batch_size=12, seed=1, steps_done=lambda: done // steps)
    return IterationSampler(prompts, lambda: done, minibatches=minibatches, passes=passes)


def test_each_prompt_of_an_iteration_comes_once_a_pass_in_an_order_of_its_own():
    turns = list(sampler())
    assert len(turns) == len(sampler()) == 2 * 6
    assert [turn.begins for turn in turns] == [True, *[False] * 5] * 2
    assert [turn.number for turn in turns] == list(range(12))
    first = turns[:6]
    assert len({turn.prompts for turn in first}) == 1
    assert turns[6].prompts != turns[0].prompts
    for one_pass in (first[:3], first[3:]):
        assert sorted(i for turn in one_pass for i in turn.part) == list(range(12))
    assert [turn.part for turn in first[:3]] != [turn.part for turn in first[3:]]


@pytest.mark.parametrize("done", range(13))
def test_a_stopped_run_goes_on_with_the_same_steps(done):
    whole = [*sampler(), *sampler(12)]
    assert list(islice(sampler(done), 12 - done % 12)) == whole[done : done + 12 - done % 12]


def test_prompts_are_distinct_and_as_many_as_wanted(tiny):
    data = PromptDataModule(tiny.Source(train=40), tiny.make_tokenizer(), **SETTINGS)
    train = data.prompts("train")
    assert max(Counter(train).values()) == 1
    assert set(train) == {pair.messages for pair in tiny.Source(train=40).pairs("train")}
    assert len(data.prompts("test")) == 5
    assert data.report()["prompts"]["test"] == 5


def test_prompts_that_leave_no_room_are_dropped_or_refused(tiny):
    source, tokenizer = tiny.Source(train=40), tiny.make_tokenizer()
    sizes = PromptDataModule(source, tokenizer, **SETTINGS).sizes([p.messages for p in source.pairs("train")])
    room = sorted(sizes)[20]
    tight = SETTINGS | {"max_length": room + 30}
    data = PromptDataModule(source, tokenizer, **tight | {"too_long": "drop"})
    assert max(data.sizes(data.prompts("train"))) <= room
    assert data.report()["prompts_too_long"] == data.too_long
    cut = PromptDataModule(source, tokenizer, **tight)
    assert len(cut.prompts("train")) == len(data.prompts("train")) + data.too_long
    assert cut.too_long == data.too_long > 0
    with pytest.raises(UserError, match=rf"are longer than the {room} tokens that model.max_length="):
        PromptDataModule(source, tokenizer, **tight | {"too_long": "error"}).prompts("train")
    shortest = SETTINGS | {"max_length": min(sizes) + 29, "too_long": "drop"}
    with pytest.raises(UserError, match="prompts are longer than"):
        PromptDataModule(source, tokenizer, **shortest).prompts("train")
    with pytest.raises(UserError, match="leaves no room for a prompt"):
        PromptDataModule(source, tokenizer, **SETTINGS | {"max_new_tokens": 60})
    with pytest.raises(UserError, match=r"ppo.minibatches=0"):
        PromptDataModule(source, tokenizer, **SETTINGS | {"minibatches": 0})
