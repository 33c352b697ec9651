"""FlashAttention's indices on a CPU, with attention written out in the place of its kernel."""

import pytest
import torch

from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.base import Attention
from rlhf_rm.models.attention.flash import FlashAttention, Varlen
from rlhf_rm.models.attention.kernels import VarlenKernel, dense_varlen
from rlhf_rm.models.attention.trees import TREES
from tests.models.attention.test_base import rows
from tests.models.layouts import alone, rewards


class Dense(VarlenKernel):
    name = "dense"

    def is_installed(self):
        return True

    def __call__(self, query, key, value, sequences, **options):
        assert query.dtype == key.dtype == value.dtype  # or a real kernel refuses
        return dense_varlen(query, key, value, sequences, **options)


class DenseFlash(Attention):
    """As FlashAttention, but for the kernel."""

    implementation = "sdpa"

    def attach(self, network, device, dtype):
        network.set_attn_implementation(TREES)
        return Varlen(Dense(), dtype)


# llama, qwen3 and mistral have fewer heads for keys; mistral has a window that ends within prefixes.
@pytest.mark.parametrize("shape", ["llama", "qwen3", "gpt2", "mistral", "bert", "roberta"])
def test_rewards_and_gradients_are_those_of_each_response_alone(make_model, trees, shape):
    model = make_model(shape, DenseFlash())
    parameters = list(model.parameters())
    expected = alone(model, trees)
    for layout in set(model.backbone.layouts) - {"padded"}:
        got = rewards(model, trees, layout, 120, 240)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
        for a, b in zip(
            torch.autograd.grad(got.sum(), parameters, allow_unused=True),
            torch.autograd.grad(expected.sum(), parameters, allow_unused=True, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_under_autocast_everything_comes_in_16_bits(make_model, trees):
    model = make_model("llama", DenseFlash())
    with torch.no_grad():
        expected = rewards(model, trees, "shared")
        with torch.autocast("cpu", torch.bfloat16):
            got = rewards(model, trees, "shared")
    assert not torch.equal(got, expected)
    torch.testing.assert_close(got, expected, atol=0.15, rtol=0.05)


def test_recomputed_activations_attend_to_the_same(make_model, trees):
    model = make_model("llama", DenseFlash())
    plain = torch.autograd.grad(rewards(model, trees, "shared").sum(), model.parameters())
    model.network.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    again = torch.autograd.grad(rewards(model, trees, "shared").sum(), model.parameters())
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_dropout_of_attention_weights_is_refused(make_model, trees):
    model = make_model("llama", DenseFlash())
    for layer in model.network.model.layers:
        layer.self_attn.attention_dropout = 0.1
    model.train()
    with pytest.raises(UserError, match="attention=flash has no dropout of attention weights"):
        rewards(model, trees, "shared")


@pytest.mark.parametrize(
    ("device", "dtype", "shape", "why"),
    [
        ("cpu", torch.bfloat16, "llama", "its kernels are for GPUs, and this is cpu"),
        ("cuda", torch.float32, "llama", "its kernels compute in 16 bits, and this is float32"),
        ("cuda", torch.bfloat16, "bloom", "the attention of a bloom model cannot be replaced"),
        (
            "cuda",
            torch.bfloat16,
            "deepseek_v3",
            "the values of a deepseek_v3 model have another size than its",
        ),
        ("cuda", torch.bfloat16, "gemma2", "a gemma2 model soft-caps its attention scores"),
    ],
)
def test_what_it_cannot_do_is_refused_with_the_reason(make_model, device, dtype, shape, why):
    with pytest.raises(UserError, match=f"attention=flash is not possible: {why}.*; use attention=auto"):
        FlashAttention().attach(make_model(shape).network, torch.device(device), dtype)


def test_sequences_of_rows():
    found = rows().sequences
    # a b c d | e over a b | f g | h over f | two of padding, which base's rows were given afterwards
    assert found.cu_seqlens_q_S.tolist() == [0, 4, 5, 7, 8, 10]
    assert found.key_K.tolist() == [0, 1, 2, 3, 0, 1, 4, 5, 6, 5, 7, 8, 9]
    assert found.cu_seqlens_k_S.tolist() == [0, 4, 7, 9, 11, 13]
    assert (found.max_seqlen_q, found.max_seqlen_k) == (4, 4)
