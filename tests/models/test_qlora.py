import dataclasses

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from rlhf_rm.errors import UserError
from rlhf_rm.models.adapter import merged_state
from rlhf_rm.models.qlora import QLoRA

SETTINGS = {"r": 4, "alpha": 8, "dropout": 0.0, "targets": None, "top_layers": None, "learning_rate": 1e-3}
QLORA = QLoRA(**SETTINGS, quantization="nf4", double_quantization=True)


@pytest.fixture
def saved(make_model, tmp_path):
    make_model("llama").network.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_backbone_is_in_four_bits_and_the_rest_is_trained(saved):
    network = AutoModelForSequenceClassification.from_pretrained(saved, **QLORA.loading(torch.float32))
    QLORA.apply(network, train_head=True)
    layer = network.model.layers[0].mlp.down_proj
    assert layer.base_layer.weight.dtype == torch.uint8
    assert layer.base_layer.weight.numel() == 48 * 32 / 2
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert "score.weight" in trained and all("lora_" in name or name == "score.weight" for name in trained)
    ids = torch.arange(3, 12)[None]
    network(input_ids=ids).logits.sum().backward()
    assert network.score.weight.grad.norm() > 0 and layer.lora_B["default"].weight.grad.norm() > 0


def test_what_is_merged_scores_as_the_quantised_network_did(saved):
    network = AutoModelForSequenceClassification.from_pretrained(saved, **QLORA.loading(torch.float32))
    QLORA.apply(network, train_head=True)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
    plain = AutoModelForSequenceClassification.from_pretrained(saved)
    exact = {name: value.clone() for name, value in plain.state_dict().items()}
    merged = merged_state(network)
    assert merged.keys() == exact.keys()
    plain.load_state_dict(merged)
    ids = torch.arange(3, 12)[None]
    ours, theirs = network.eval()(input_ids=ids).logits, plain.eval()(input_ids=ids).logits
    assert torch.allclose(ours, theirs, atol=1e-4)
    plain.load_state_dict(exact)
    assert not torch.allclose(ours, plain(input_ids=ids).logits, atol=1e-2)


def test_an_unknown_quantisation_is_refused():
    with pytest.raises(UserError, match=r"adapter\.quantization=nf3 is unknown: use nf4 or fp4"):
        dataclasses.replace(QLORA, quantization="nf3").loading(torch.float32)


def test_without_the_library_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs bitsandbytes, which is not installed: pip install"):
        QLORA.loading(torch.float32)


def test_random_weights_are_not_quantised(rlhf_rm, small):
    ended = rlhf_rm("train", *small, "adapter=qlora", "base.enabled=false")
    assert ended.code == 2
    assert "a quantised adapter needs a pretrained model" in ended.err
