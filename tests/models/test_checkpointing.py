"""Less memory, the same gradients, and nothing computed twice that need not be."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.by_tree import ByTreeAttention
from rlhf_rm.models.attention.sdpa import SDPAAttention
from rlhf_rm.models.checkpointing import ATTENTION, checkpoint_activations
from tests.models.layouts import rewards


class Counted(TorchDispatchMode):
    """Counts the operators that run."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.seen[operator.name()] += 1
        return operator(*args, **(kwargs or {}))

    def forward(self, *names):
        return sum(n for name, n in self.seen.items() if name.startswith(names) and "backward" not in name)


def step(model, trees):
    """Gradients of a step, and how often attention and matrix products ran."""
    model.zero_grad()
    with Counted() as counted:
        rewards(model, trees, "shared", 120, 240).sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    return gradients, counted.forward(*ATTENTION), counted.forward("aten::silu")


@pytest.mark.parametrize("attention", [SDPAAttention(), ByTreeAttention()])
def test_attention_and_the_last_layer_are_not_computed_again(make_model, trees, attention):
    model = make_model("llama", attention).train()
    plain, attended, layers = step(model, trees)
    checkpoint_activations(model.network)
    again, attended_again, layers_again = step(model, trees)
    assert attended_again == attended
    assert layers_again == layers * 3 / 2  # of two layers the first
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_a_model_that_cannot_is_refused(make_model, monkeypatch):
    network = make_model("llama", SDPAAttention()).network
    monkeypatch.setattr(type(network), "supports_gradient_checkpointing", False)
    with pytest.raises(UserError, match=r"checkpointing=true is not supported by llama models: leave it out"):
        checkpoint_activations(network)
