"""What is chosen where."""

import pytest
import torch

from rlhf_rm.models.attention.auto import AutoAttention, choose
from rlhf_rm.models.attention.by_tree import ByTree
from rlhf_rm.models.attention.eager import EagerAttention
from tests.models.layouts import alone, rewards

HALF, WHOLE = torch.bfloat16, torch.float32


@pytest.mark.parametrize(
    ("device", "dtype", "shape", "wanted"),
    [
        ("cuda", HALF, "llama", "flash, by PyTorch"),
        ("cuda", HALF, "mistral", "flash, by PyTorch"),
        ("cuda", WHOLE, "llama", "flex, and not flash: its kernels compute in 16 bits"),
        ("cuda", HALF, "gemma2", "flex, and not flash: a gemma2 model soft-caps"),
        ("cuda", HALF, "bloom", "eager, and not flash or flex: the attention of a bloom model cannot be rep"),
        ("cpu", WHOLE, "llama", "by_tree"),
        ("cpu", WHOLE, "bert", "by_tree"),
        ("cpu", WHOLE, "distilbert", "by_tree"),
        ("cpu", WHOLE, "gemma2", "eager"),
        ("cpu", WHOLE, "nemotron", "sdpa"),
        ("cpu", WHOLE, "bloom", "eager"),
    ],
)
def test_the_fastest_that_can_be_done_is_chosen_with_its_reason(make_model, device, dtype, shape, wanted):
    _, why = choose(make_model(shape).network, torch.device(device), dtype)
    assert why.startswith(wanted)


def test_a_model_that_soft_caps_is_run_right_without_being_told_how(make_model, trees):
    model = make_model("gemma2", AutoAttention())
    with torch.no_grad():
        expected = alone(make_model("gemma2"), trees)
        torch.testing.assert_close(rewards(model, trees, "shared"), expected, atol=1e-5, rtol=0)


def test_a_window_that_attention_would_not_be_told_of_is_not_lost(make_model):
    network = make_model("llama").network
    network.config.sliding_window = 7  # and llama tells nobody
    _, why = choose(network, torch.device("cpu"), WHOLE)
    assert why == "sdpa"
    _, why = choose(network, torch.device("cuda"), HALF)
    assert why.startswith("flex, and not flash: the attention of a llama model cannot be replaced")


def test_it_is_chosen_again_when_the_dtype_changes(make_model, trees):
    model = make_model("llama", AutoAttention())
    at = torch.device("cpu")
    first = model.backbone._at(at)
    assert isinstance(first, ByTree)
    assert model.backbone._at(at) is first
    with torch.autocast("cpu", torch.bfloat16):
        assert model.backbone._at(at).dtype is HALF
    assert EagerAttention().attach(model.network, at, WHOLE)
