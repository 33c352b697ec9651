"""Tiny networks of the architectures that people train reward models on."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from rlhf_rm.data.packing import Tree, shared_prefix
from rlhf_rm.models.attention.base import Attention
from rlhf_rm.models.attention.eager import EagerAttention
from rlhf_rm.models.attention.sdpa import SDPAAttention
from rlhf_rm.models.reward import RewardModel
from tests.tiny_policy import tiny_policy, tiny_tokenizer

DECODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}
ENCODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
# What has no SDPA.
OWN_ATTENTION = ("gemma2", "bloom", "mpnet", "gpt_neo", "openai-gpt", "gpt_oss")
SHAPES = {
    "llama": DECODER,
    "qwen3": DECODER,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "mistral": DECODER | {"sliding_window": 7},
    "gemma2": DECODER | {"sliding_window": 7, "query_pre_attn_scalar": 8},
    "gpt_neo": {"hidden_size": 32, "num_layers": 3, "num_heads": 4, "window_size": 7}
    | {"attention_types": [[["global", "local", "global"], 1]]},
    "openai-gpt": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "doge": DECODER | {"keep_window_size": 8},
    "ministral": DECODER | {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]},
    "exaone4": DECODER | {"sliding_window": 7, "sliding_window_pattern": 2},
    "gpt_oss": DECODER | {"sliding_window": 7, "num_local_experts": 2, "num_experts_per_tok": 1},
    "qwen2_moe": DECODER
    | {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1, "num_experts": 2}
    | {"num_experts_per_tok": 1, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    "nemotron": DECODER,
    "jetmoe": DECODER | {"kv_channels": 8, "num_local_experts": 2},
    # A head's values have a size of their own.
    "deepseek_v3": DECODER
    | {"num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "first_k_dense_replace": 2}
    | {"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12},
    "bert": ENCODER,
    "roberta": ENCODER,
    "camembert": ENCODER,
    "mpnet": ENCODER,
    "electra": ENCODER,
    "distilbert": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 256},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
}


@pytest.fixture
def make_model():
    def make(shape: str, attention: Attention | None = None) -> RewardModel:
        torch.manual_seed(0)
        config = AutoConfig.for_model(
            shape,
            **SHAPES[shape],
            vocab_size=64,
            num_labels=1,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
        )
        if attention is None:
            attention = EagerAttention() if shape in OWN_ATTENTION else SDPAAttention()
        network = AutoModelForSequenceClassification.from_config(
            config, attn_implementation=attention.implementation
        )
        # Larger weights than at the start of training, so that a wrong mask or position shows.
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim == 2:
                    parameter.normal_(std=0.3)
        return RewardModel(network, attention).eval()

    return make


@pytest.fixture
def trees() -> list[Tree]:
    """Pairs that share 5 to 20 tokens; token 1 is EOS and ends every response."""
    rng = np.random.default_rng(0)
    made = []
    for shared, chosen, rejected in [(5, 9, 2), (20, 1, 12), (11, 6, 6), (8, 14, 3), (16, 2, 2)]:
        prefix = rng.integers(2, 64, shared)
        branches = tuple(
            np.concatenate([prefix, rng.integers(2, 64, own), [1]]).astype(np.int32)
            for own in (chosen, rejected)
        )
        made.append(Tree(branches, shared_prefix(branches), (shared, shared)))
    return made


@pytest.fixture
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture
def network(tokenizer):
    return tiny_policy(tokenizer)
