"""Dropout of models that call it with a rate of their own, beside those whose layers are `nn.Dropout`."""

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from rlhf_rm.models.dropout import set_hidden_dropout, without_dropout

RATES = {
    "llama": {"attention_dropout": 0.2},
    "gpt2": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "layerdrop": 0.1},
    "biogpt": {"layerdrop": 0.1},
    "starcoder2": {"attention_dropout": 0.2, "embedding_dropout": 0.2, "residual_dropout": 0.2},
    "bloom": {"hidden_dropout": 0.2},
    "falcon": {"hidden_dropout": 0.2, "attention_dropout": 0.2},
}


def network_of(kind):
    """A tiny one, in training mode."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model(kind, **sizes, **RATES[kind], vocab_size=64, num_labels=1, pad_token_id=0)
    network = AutoModelForSequenceClassification.from_config(config)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, 0.2)
    return network.train()


@torch.no_grad()
def rewards(network):
    ids = torch.arange(2, 22).view(2, 10)
    return network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


@pytest.mark.parametrize("kind", RATES)
def test_without_dropout_training_mode_computes_what_evaluation_mode_does(kind):
    network = network_of(kind)
    before = network.config.to_dict()
    assert not torch.equal(rewards(network), rewards(network))
    without_dropout(network)
    for one in (network, copy.deepcopy(network)):
        assert torch.equal(rewards(one.train()), rewards(one.eval()))
    assert network.config.to_dict() == before  # as it will be exported


@pytest.mark.parametrize("kind", RATES)
def test_hidden_dropout_is_set_in_models_of_every_kind(kind):
    network = network_of(kind)
    without_dropout(network)
    set_hidden_dropout(network, 0.3)
    assert (rewards(network) - rewards(network)).abs().max() > 0.01
    set_hidden_dropout(network, 0.0)
    if kind != "llama":  # hooks stay
        assert torch.equal(rewards(network), rewards(network))
