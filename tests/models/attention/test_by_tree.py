"""Tree by tree is the same attention, whatever is skipped on the way."""

import pytest
import torch

from rlhf_rm.errors import UserError
from rlhf_rm.models.attention import by_tree
from rlhf_rm.models.attention.by_tree import ByTree, ByTreeAttention, TreeByTree, pairs_needed
from tests.models.attention.test_base import rows
from tests.models.layouts import alone, rewards


@pytest.mark.parametrize(
    "shape", ["llama", "qwen3", "gpt2", "mistral", "bert", "roberta", "jetmoe", "deepseek_v3"]
)
def test_rewards_and_gradients_are_those_of_each_response_alone(make_model, trees, shape, monkeypatch):
    monkeypatch.setattr(by_tree, "WORTH", 0)  # or rows as short as these are left to SDPA
    seen = []
    call = TreeByTree.__call__
    monkeypatch.setattr(
        TreeByTree, "__call__", lambda self, *a, **k: seen.append(self) or call(self, *a, **k)
    )
    model = make_model(shape, ByTreeAttention())
    parameters = list(model.parameters())
    expected = alone(model, trees)
    for layout in set(model.backbone.layouts) - {"padded"}:
        seen.clear()
        got = rewards(model, trees, layout, 120, 240)
        assert seen  # it was not SDPA under a mask
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
        for a, b in zip(
            torch.autograd.grad(got.sum(), parameters, allow_unused=True),
            torch.autograd.grad(expected.sum(), parameters, allow_unused=True, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_in_bfloat16_short_rows_are_written_out_and_long_ones_go_tree_by_tree(make_model, trees, monkeypatch):
    model = make_model("llama", ByTreeAttention())
    with torch.no_grad():
        expected = rewards(model, trees, "shared")
        for share in (0.0, 1.0):
            monkeypatch.setattr(by_tree, "SHARE", share)
            with torch.autocast("cpu", torch.bfloat16):
                got = rewards(model, trees, "shared")
            assert not torch.equal(got, expected)
            torch.testing.assert_close(got, expected, atol=0.15, rtol=0.05)


def test_attention_that_is_changed_behind_its_back_breaks(make_model, trees, monkeypatch):
    monkeypatch.setattr(by_tree, "WORTH", 0)
    model = make_model("llama", ByTreeAttention())
    rewards(model, trees, "shared", 200, 400)
    model.network.set_attn_implementation("sdpa")
    with pytest.raises(RuntimeError, match="size"):
        rewards(model, trees, "shared", 200, 400)


def test_which_rows_go_tree_by_tree():
    record = rows()
    # The two trees of base's rows: 4 + 1 and 2 + 1 queries, 3 and 2 keys for the last ones; 2 of padding.
    assert pairs_needed(record.sequences, causal=False) == 16 + 3 + 4 + 2 + 4
    assert pairs_needed(record.sequences, causal=True) == 8 + 3 + 2 + 2 + 2
    exact, half = ByTree(torch.float32), ByTree(torch.bfloat16)
    assert exact.arguments(record, causal=True) == {}
    assert exact.mask(record, causal=True).shape == (1, 1, 10, 10)
    assert isinstance(half.arguments(record, causal=True)["trees"], TreeByTree)  # 17 of 100 pairs


def test_other_devices_and_models_are_refused(make_model):
    model = make_model("llama")
    with pytest.raises(UserError, match=r"by_tree is for CPUs, and this is cuda:0: use attention=auto"):
        ByTreeAttention().attach(model.network, torch.device("cuda:0"), torch.float32)
    with pytest.raises(UserError, match=r"cannot replace the attention of a bloom model"):
        ByTreeAttention().attach(make_model("bloom").network, torch.device("cpu"), torch.float32)


@pytest.mark.slow
def test_a_compiled_model_attends_to_the_trees_of_each_pass(make_model, trees, monkeypatch):
    monkeypatch.setattr(by_tree, "WORTH", 0)
    model = make_model("llama", ByTreeAttention())
    expected = [rewards(model, trees[at:], "shared", 120, 240) for at in range(3)]
    model.network.base_model.compile(dynamic=True)
    for at in range(3):
        torch.testing.assert_close(
            rewards(model, trees[at:], "shared", 120, 240), expected[at], atol=1e-5, rtol=0
        )
