"""Models of the hub: the real loading code, over a download's cache and a hub that is not there."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from rlhf_rm.errors import UserError
from rlhf_rm.models.hub import local_copy


@pytest.fixture(scope="module")
def export(tmp_path_factory, request):
    """A reward model that somebody else might have put on the hub."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from rlhf_rm.data.template import set_template
    from rlhf_rm.models.tokenizer import save_tokenizer, train_byte_bpe

    directory = tmp_path_factory.mktemp("hub") / "model"
    tokenizer = train_byte_bpe([], vocab_size=258)
    set_template(tokenizer, "hh")
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=258,
        num_labels=1,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(directory)
    save_tokenizer(tokenizer, directory)
    return directory


@pytest.fixture
def score(tmp_path):
    """Score two responses with a model of the hub that cannot be reached."""
    rows = [{"prompt": "q", "response": text} for text in ("a", "bb")]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    there = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9"}

    def score(name, offline):
        files = [f"input={tmp_path / 'in.jsonl'}", f"output={tmp_path / 'out.jsonl'}"]
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "rlhf_rm.cli",
                "score",
                f"run={name}",
                *files,
                f"hydra.run.dir={tmp_path}/run",
            ],
            env=os.environ | there | {"HF_HUB_OFFLINE": offline},
            capture_output=True,
            text=True,
            check=False,
        )

    return score


def test_what_is_in_the_cache_is_found_without_a_network(score, export, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hf" / "hub" / "models--org--reward"
    shutil.copytree(export, repository / "snapshots" / commit)
    for revision in ("main", "v2"):
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commit)
    ended = score("org/reward@v2", offline="0")
    assert ended.returncode == 0, ended.stderr
    assert "org/reward@v2 is taken from the cache" in ended.stdout + ended.stderr
    rewards = [json.loads(line)["reward"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(set(rewards)) == 2


def test_what_cannot_be_reached_is_told_soon_in_one_sentence(score):
    began = time.monotonic()
    ended = score("org/unknown", offline="1")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "org/unknown is no directory, the hub cannot be reached" in ended.stderr
    assert time.monotonic() - began < 40


def test_a_path_that_is_none_is_told():
    with pytest.raises(UserError, match="/no/such/model is no directory"):
        local_copy("/no/such/model")
