import random

import pytest

from rlhf_rm.data.types import Message, PreferencePair
from rlhf_rm.methods.scoring import pair_differences, pair_rewards


@pytest.mark.parametrize("layout", ["shared", "packed", "padded"])
def test_pairs_that_truncation_makes_equal_are_exact_ties_in_every_layout(tiny, monkeypatch, layout):
    def pairs(source, split):
        rng = random.Random(split)
        begun = [" ".join(rng.choices(tiny.WORDS, k=rng.randint(20, 30))) for _ in range(40)]
        return [PreferencePair((Message("user", "say"),), text + " yes", text + " no") for text in begun]

    monkeypatch.setattr(tiny.Source, "pairs", pairs)
    tokenizer = tiny.make_tokenizer()
    cut = {"max_length": 21, "too_long": "truncate_prompt_left"}
    data = tiny.make_datamodule(tiny.Source(), tokenizer, layout=layout, row_tokens=200, **cut)
    model = tiny.make_model(tokenizer).eval()
    rewards = pair_rewards(model, data.evaluation_dataloader("test"))
    assert len(set(rewards.chosen.tolist())) > 1
    assert rewards.chosen.tolist() == rewards.rejected.tolist()
    assert not pair_differences(model, data.evaluation_dataloader("test")).any()
