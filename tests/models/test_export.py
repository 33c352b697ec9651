import json
import os
import subprocess

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizer,
    pipeline,
)

from rlhf_rm.data.template import set_template
from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.sdpa import SDPAAttention
from rlhf_rm.models.export import _positions, export, plain_rewards
from rlhf_rm.models.generate import ends_of
from rlhf_rm.models.language import LanguageModel
from rlhf_rm.models.load import load_reward_model
from rlhf_rm.models.qlora import QLoRA
from rlhf_rm.models.tokenizer import train_byte_bpe

PROBES = [
    ((Message("user", "how are you"),), "fine thanks"),
    ((Message("user", "how are you"),), ""),
    ((Message("user", "you"), Message("assistant", "fine"), Message("user", "how")), "no no no no thanks"),
]
SCORE = """
import json, sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
scores = {}
for directory in sys.argv[2:]:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    texts = [tokenizer.apply_chat_template(d, tokenize=False) for d in json.loads(sys.argv[1])]
    batch = tokenizer(
        texts, padding=True, return_tensors="pt", add_special_tokens=tokenizer.cls_token is not None
    )
    with torch.no_grad():
        scores[directory] = model(**batch).logits[:, 0].tolist()
print(json.dumps(scores))
"""


def tokenizer_for(shape):
    if shape == "bert":
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "how", "are", "you", "fine", "thanks", "no"]
        tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    else:
        tokenizer = train_byte_bpe([], vocab_size=258)
    set_template(tokenizer, "auto")
    return tokenizer


@pytest.fixture
def exported(make_model, tmp_path):
    """Export a tiny model of a shape; returns (directory, model)."""

    def make(shape, directory=tmp_path / "export", positions=256):
        tokenizer = tokenizer_for(shape)
        model = make_model(shape)
        model.network.config.max_position_embeddings = positions
        model.network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        if shape == "llama":
            # A base that is not the default, after the model was made: its cached table must follow.
            config = model.network.config
            config.rope_parameters = {"rope_type": "default", "rope_theta": 50_000.0}
            model.network.model.rotary_emb = type(model.network.model.rotary_emb)(config)
        return directory, model, export(model, tokenizer, directory, max_length=128, probes=PROBES)

    return make


@pytest.mark.parametrize("shape", ["llama", "qwen3", "gpt2", "bert"])
def test_anybody_gets_our_rewards_from_an_export(exported, shape):
    directory, _, difference = exported(shape)
    assert difference < 1e-4
    tokenizer = AutoTokenizer.from_pretrained(directory)
    again = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    with torch.no_grad():
        batch, alone = (
            plain_rewards(again, tokenizer, PROBES),
            torch.cat([plain_rewards(again, tokenizer, [probe]) for probe in PROBES]),
        )
    torch.testing.assert_close(batch, alone, atol=1e-4, rtol=0)
    assert batch.std() > 0.05
    config = json.loads((directory / "config.json").read_text())
    assert again.config.num_labels == len(config["id2label"]) == 1
    assert config["pad_token_id"] == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert config["torch_dtype"] == config["dtype"] == "float32"
    assert tokenizer.chat_template == tokenizer_for(shape).chat_template
    assert tokenizer.model_max_length == 128
    assert {path.suffix for path in directory.iterdir()} <= {".json", ".jinja", ".safetensors", ".md", ".txt"}
    assert "AutoModelForSequenceClassification" in (directory / "README.md").read_text()


@pytest.mark.parametrize("quantised", [False, True])
def test_what_ends_a_response_is_kept(tokenizer, network, tmp_path, quantised):
    network.save_pretrained(tmp_path / "model")
    told = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps(told | {"eos_token_id": [1, 9]}))
    adapter = QLoRA(4, 8, 0.0, None, None, 1e-3, quantization="nf4", double_quantization=True)
    loading = adapter.loading(torch.float32) if quantised else {}
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", **loading)
    if quantised:
        adapter.apply(loaded, train_head=False)
    model = LanguageModel(loaded, SDPAAttention())
    export(model, tokenizer, tmp_path / "export", max_length=128, probes=PROBES)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    assert ends_of(again, tokenizer) == (1, 9)


def test_the_base_of_the_rotary_embedding_has_the_names_of_both_versions(exported):
    config = json.loads((exported("llama")[0] / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 50_000.0
    assert config["rope_scaling"] is None


def test_a_model_with_rotary_positions_is_used_at_the_length_that_it_was_trained_at(exported):
    directory, _, _ = exported("llama", positions=64)
    loaded = load_reward_model(str(directory), SDPAAttention(), device="cpu")
    assert loaded.max_length == loaded.model.network.config.max_position_embeddings == 128


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"max_position_embeddings": 64}, {}),  # learned
        ({"max_position_embeddings": 256, "rope_parameters": {"rope_theta": 1e4}}, {}),
        ({"max_position_embeddings": 64, "rope_parameters": {"rope_type": "dynamic"}}, {}),
        (
            {"max_position_embeddings": 64, "rope_parameters": {"rope_type": "llama3"}},
            {"max_position_embeddings": 128},
        ),
        (
            {"max_position_embeddings": 64, "rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
            {},
        ),
    ],
)
def test_the_number_of_positions_follows_only_where_nothing_is_made_from_it(config, said):
    assert _positions(config, 128) == said


def test_an_export_that_scores_otherwise_is_refused_and_leaves_nothing(exported, monkeypatch, tmp_path):
    load = AutoModelForSequenceClassification.from_pretrained

    def spoilt(*args, **kwargs):
        network = load(*args, **kwargs)
        with torch.no_grad():
            network.score.weight.mul_(1.01)
        return network

    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", spoilt)
    with pytest.raises(UserError, match="the export scores differently from the model by"):
        exported("llama")
    assert list(tmp_path.iterdir()) == []


def test_a_refused_export_leaves_an_earlier_one_alone(exported, monkeypatch):
    directory, *_ = exported("llama")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    monkeypatch.setattr("rlhf_rm.models.export.TOLERANCE", -1.0)
    with pytest.raises(UserError):
        exported("llama")
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


def test_the_model_is_in_training_mode_afterwards_if_it_was_before(make_model, tmp_path):
    model = make_model("gpt2").train()  # with dropout, which the comparison must not see
    tokenizer = tokenizer_for("gpt2")
    model.network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    assert export(model, tokenizer, tmp_path / "export", max_length=128, probes=PROBES) < 1e-4
    assert model.training


def test_transformers_4_opens_an_export_with_the_same_scores(exported, tmp_path):
    python = os.environ.get("RLHF_RM_TRANSFORMERS_4_PYTHON")
    if not python:
        pytest.skip("needs RLHF_RM_TRANSFORMERS_4_PYTHON, a Python that has transformers 4.51")
    expected = {}
    for shape in ("llama", "qwen3", "bert"):
        directory, *_ = exported(shape, tmp_path / shape)
        again = AutoModelForSequenceClassification.from_pretrained(directory).eval()
        with torch.no_grad():
            expected[str(directory)] = plain_rewards(again, AutoTokenizer.from_pretrained(directory), PROBES)
    dialogues = [[*(m._asdict() for m in p), {"role": "assistant", "content": a}] for p, a in PROBES]
    done = subprocess.run(
        [python, "-c", SCORE, json.dumps(dialogues), *expected],
        capture_output=True,
        text=True,
        check=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    scores = json.loads(done.stdout.splitlines()[-1])
    for directory, rewards in expected.items():
        torch.testing.assert_close(torch.tensor(scores[directory]), rewards, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", ["llama", "bert"])
def test_a_pipeline_gives_our_rewards_without_being_told_anything(exported, shape):
    directory, model, _ = exported(shape)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    score = pipeline("text-classification", model=str(directory), function_to_apply="none", device="cpu")
    texts = [
        tokenizer.apply_chat_template(
            [*(m._asdict() for m in messages), {"role": "assistant", "content": response}], tokenize=False
        )
        for messages, response in PROBES
    ]
    found = [one["score"] for one in score(texts)]
    assert found == pytest.approx(plain_rewards(model.network, tokenizer, PROBES).tolist(), abs=1e-5)
