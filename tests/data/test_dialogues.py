"""Data without preferences."""

import json

import pytest

from rlhf_rm.data.dialogues import DialogueSource, parse_dialogue
from rlhf_rm.data.reading import BadRowError
from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError

SETTINGS = {
    "validation_path": None, "test_path": None, "validation_fraction": 0.2, "test_fraction": 0.2,
    "split_seed": 0, "on_bad_row": "error", "limit": None, "columns": {},
}  # fmt: skip
HI, HELLO = Message("user", "Hi"), Message("assistant", "Hello!")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [HI._asdict(), HELLO._asdict()]}, (HI, HELLO)),
        ({"prompt": "Hi", "response": "Hello!"}, (HI, HELLO)),
        ({"prompt": [HI._asdict()], "completion": [HELLO._asdict()]}, (HI, HELLO)),
        ({"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}, (HI, HELLO)),
        ({"prompt": "Hi"}, (HI,)),
        ({"text": "\n\nHuman: Hi\n\nAssistant: Hello!"}, (HI, HELLO)),
        ({"text": "Hello!"}, (HELLO,)),
    ],
)
def test_forms(row, expected):
    assert parse_dialogue(row) == expected


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"answer": "x"}, 'needs "messages", "prompt" or "text"'),
        ({"text": 3}, '"text" must be text'),
        ({"messages": []}, "empty list"),
        ({"prompt": "Hi", "response": [HI._asdict()]}, "one assistant message is expected"),
    ],
)
def test_bad_rows(row, words):
    with pytest.raises(BadRowError, match=words):
        parse_dialogue(row)


def test_demonstrations_and_prompts_are_split_by_prompt_and_preferences_refused(tmp_path):
    rows = [{"prompt": f"q{i % 30}", "response": f"a{i}"} for i in range(60)]
    rows += [{"prompt": f"alone {i}"} for i in range(20)] + [{"text": f"words {i}"} for i in range(5)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = DialogueSource(tmp_path / "rows.jsonl", **SETTINGS)
    told = {split: source.demonstrations(split) for split in ("train", "validation", "test")}
    asked = {split: set(source.prompts(split)) for split in told}
    assert sum(map(len, told.values())) == 65
    assert sum(map(len, asked.values())) == 50
    assert not asked["train"] & asked["test"]
    assert all({d[:-1] for d in told[split] if len(d) > 1} <= asked[split] for split in told)
    with pytest.raises(UserError, match="has no preferences: train on it with method=sft or method=ppo"):
        source.pairs("train")


def test_both_methods_train_on_it_and_others_refuse(rlhf_rm, small, tmp_path):
    rows = [{"prompt": f"Say the number {i}.", "response": f"It is {i}."} for i in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    kept = [one for one in small if not one.startswith("data.")]
    data = ["data=dialogues", f"data.path={tmp_path}/rows.jsonl"]
    ended = rlhf_rm("train", *kept, *data, "method=sft", f"hydra.run.dir={tmp_path}/sft")
    assert ended.code == 0, ended.err
    assert "base model" not in ended.out
    ended = rlhf_rm("train", *kept, f"hydra.run.dir={tmp_path}/reward")
    assert ended.code == 0, ended.err
    policy = [f"model.path={tmp_path}/sft", "model.architecture=null", "model.vocab_size=null"]
    options = [*policy, f"ppo.reward={tmp_path}/reward", "sampling.max_new_tokens=8"]
    ended = rlhf_rm("train", *kept, *data, "method=ppo", *options, f"hydra.run.dir={tmp_path}/ppo")
    assert ended.code == 0, ended.err
    assert rlhf_rm("sample", f"run={tmp_path}/ppo", "limit=2", f"output={tmp_path}/s.jsonl").code == 0
    ended = rlhf_rm("train", *kept, *data, f"hydra.run.dir={tmp_path}/no")
    assert ended.code == 2
    assert "has no preferences" in ended.err
