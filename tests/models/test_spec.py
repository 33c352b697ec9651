import numpy as np
import pytest
import torch

from rlhf_rm.data.packing import Packing, Tree
from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError
from rlhf_rm.models.adapter import NoAdapter
from rlhf_rm.models.attention.eager import EagerAttention
from rlhf_rm.models.attention.sdpa import SDPAAttention
from rlhf_rm.models.spec import ModelSpec, _warn, cached_tokenizer
from rlhf_rm.models.tokenizer import load_tokenizer, save_tokenizer

LLAMA = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


def spec(**changes):
    fields = {
        "path": None,
        "architecture": LLAMA,
        "vocab_size": 270,
        "template": "hh",
        "max_length": 64,
        "dtype": "float32",
        "gradient_checkpointing": False,
        "compile": False,
        "learning_rate": 1e-3,
        "trust_remote_code": False,
        "adapter": NoAdapter(1e-3),
    }
    return ModelSpec(**fields | changes)


TEXTS = [(Message("user", "how are you"), Message("assistant", "well"))]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    return spec().tokenizer(cached_tokenizer(lambda: TEXTS, 270, "auto", directory / "made"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": None}, "needs either model.path .* or model.architecture"),
        ({"path": "somewhere"}, "needs either model.path .* or model.architecture"),
        ({"vocab_size": None}, "a fresh model needs model.vocab_size"),
        ({"dtype": "float16"}, "model.dtype=float16 is unknown: use float32 or bfloat16"),
        ({"max_length": 1}, "model.max_length=1 must be at least 2"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        spec(**changes)


def test_a_fresh_model_fits_its_tokenizer_and_is_ready_to_train(tokenizer):
    model = spec(dtype="bfloat16").reward_model(tokenizer, SDPAAttention())
    config = model.network.config
    assert (config.vocab_size, config.pad_token_id, config.eos_token_id) == (len(tokenizer), 0, 1)
    assert config.num_labels == 1
    assert model.training
    assert next(model.parameters()).dtype == torch.bfloat16


def test_a_reward_model_starts_from_a_language_models_weights(tokenizer, tmp_path):
    start = spec().language_model(tokenizer, SDPAAttention())
    start.network.save_pretrained(tmp_path)
    model = spec().reward_model(tokenizer, SDPAAttention(), tmp_path)
    for name, weight in start.network.model.state_dict().items():
        assert torch.equal(weight, model.network.model.state_dict()[name])
    assert model.network.score.weight.abs().sum() > 0


def test_what_cannot_be_made_is_told_in_a_sentence(tokenizer, tmp_path):
    with pytest.raises(UserError, match="no model could be made from"):
        spec().reward_model(tokenizer, SDPAAttention(), tmp_path / "nothing")
    with pytest.raises(UserError, match="needs a model_type"):
        spec(architecture={"hidden_size": 16}).reward_model(tokenizer, SDPAAttention())
    with pytest.raises(UserError, match="no model could be made from"):
        spec(architecture=LLAMA | {"model_type": "lama"}).reward_model(tokenizer, SDPAAttention())


def test_one_embedding_is_added_for_a_pad_token_and_a_foreign_tokenizer_is_refused(tokenizer, tmp_path):
    small = spec(architecture=LLAMA | {"vocab_size": len(tokenizer)})
    small.language_model(tokenizer, SDPAAttention()).network.save_pretrained(tmp_path)
    save_tokenizer(tokenizer, tmp_path)
    grown = load_tokenizer(tmp_path)
    grown.add_special_tokens({"pad_token": "<|new|>"})
    pretrained = spec(path=str(tmp_path), architecture=None, vocab_size=None)
    model = pretrained.reward_model(grown, SDPAAttention())
    assert model.network.get_input_embeddings().weight.shape[0] == len(tokenizer) + 1
    assert model.network.config.vocab_size == len(tokenizer) + 1
    assert model.network.config.pad_token_id == grown.pad_token_id == len(tokenizer)
    grown.add_tokens(["more", "and more"])
    with pytest.raises(UserError, match="use the tokenizer that belongs to the model"):
        pretrained.reward_model(grown, SDPAAttention())


def test_gradient_checkpointing_changes_no_gradient(tokenizer, tiny):
    data = tiny.make_datamodule(tiny.Source(), tiny.make_tokenizer())
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        described = spec(architecture=LLAMA | {"vocab_size": 300}, gradient_checkpointing=checkpointing)
        model = described.reward_model(tiny.make_tokenizer(), SDPAAttention())
        assert model.network.is_gradient_checkpointing == checkpointing
        sum(model(pairs.rows).pow(2).sum() for pairs in data.split("train").step(range(4))).backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


def test_a_model_that_soft_caps_its_scores_is_refused_where_that_would_be_left_out(tokenizer):
    gemma = spec(architecture=LLAMA | {"model_type": "gemma2", "head_dim": 8})
    with pytest.raises(UserError, match=r"no model could be made from .* use attention=eager"):
        gemma.reward_model(tokenizer, SDPAAttention())
    gemma.reward_model(tokenizer, EagerAttention())


@pytest.mark.parametrize(
    ("fields", "longest"),
    [
        ({"model_type": "gpt2", "n_positions": 32}, 32),
        ({"model_type": "opt", "max_position_embeddings": 32, "ffn_dim": 24}, 32),
        ({"model_type": "bert", "max_position_embeddings": 32}, 32),
        ({"model_type": "roberta", "max_position_embeddings": 32}, 31),  # the first row is padding's
        ({"max_position_embeddings": 32}, None),
    ],
)
def test_a_length_without_learned_positions_is_refused(tokenizer, fields, longest):
    described = LLAMA | fields
    if longest is not None:
        with pytest.raises(UserError, match=rf"max_length=64 is more than the {longest} tokens .* at most"):
            spec(architecture=described).reward_model(tokenizer, SDPAAttention())
    model = spec(architecture=described, max_length=longest or 64).reward_model(tokenizer, SDPAAttention())
    ids = np.arange(3, 3 + (longest or 64), dtype=np.int32)
    ((rows, _),) = Packing("padded", 1, 1, 0, row_multiple=1).pack([Tree((ids,), 0, (1,))])
    assert torch.isfinite(model(rows)).all()


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 4.0},
        {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4},
    ],
)
def test_rotary_positions_that_depend_on_the_batch_are_warned_of_once(tokenizer, rope, caplog):
    rope = rope | {"rope_theta": 10000.0, "original_max_position_embeddings": 32}
    described = LLAMA | {"rope_parameters": rope, "max_position_embeddings": 32}
    spec(architecture=described, max_length=32).reward_model(tokenizer, SDPAAttention())
    assert not _said(caplog)
    _warn.cache_clear()
    for _ in range(2):
        spec(architecture=described).reward_model(tokenizer, SDPAAttention())
    (said,) = _said(caplog)
    assert "max_length=64: beyond 32 tokens this model counts positions in another way" in said


def _said(caplog):
    return [record.getMessage() for record in caplog.records if record.name.startswith("rlhf_rm")]


def test_a_tokenizer_is_trained_once(tmp_path):
    first = cached_tokenizer(lambda: TEXTS, 270, "auto", tmp_path / "made")
    content = (first / "tokenizer.json").read_bytes()
    assert cached_tokenizer(lambda: pytest.fail("read again"), 270, "auto", first) == first
    assert (first / "tokenizer.json").read_bytes() == content


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_rewards_whatever_the_shape(tokenizer):
    plain = spec().reward_model(tokenizer, SDPAAttention()).eval()
    compiled = spec(compile=True).reward_model(tokenizer, SDPAAttention()).eval()
    compiled.load_state_dict(plain.state_dict())
    assert compiled.backbone.network.base_model._compiled_call_impl is not None
    with torch.no_grad():
        plain.network.score.weight.normal_()
        compiled.network.score.weight.copy_(plain.network.score.weight)
    for sizes in ([9, 5], [30, 4, 12, 7], [17]):
        trees = [Tree((np.arange(3, 3 + size), np.arange(4, 6 + size)), 0, (1, 1)) for size in sizes]
        ((rows, _),) = Packing("shared", 200, 200, 0, row_multiple=1).pack(trees)
        assert torch.allclose(plain(rows), compiled(rows), atol=1e-5)
        compiled(rows).sum().backward()
    assert torch.isfinite(compiled.network.model.embed_tokens.weight.grad).all()
