import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from rlhf_rm.models.lora_linear import LoRALinear


def layer(*, bias=True, dropout=0.0, kind=LoRALinear):
    torch.manual_seed(0)
    config = LoraConfig(
        r=3, lora_alpha=5, lora_dropout=dropout, target_modules=["0"], init_lora_weights=False
    )
    (found,) = get_peft_model(nn.Sequential(nn.Linear(7, 11, bias=bias)), config).base_model.model
    found.__class__ = kind
    return found


def outcome(found, x, grad):
    x = x.clone().requires_grad_()
    out = found(x)
    out.backward(grad.to(out.dtype))
    grads = {name: value.grad for name, value in found.named_parameters() if value.requires_grad}
    assert {name.split(".")[0] for name in grads} == {"lora_A", "lora_B"}
    return [out.detach(), x.grad, *grads.values()]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6,), (2, 5), (2, 3, 4), (0, 5)])
def test_outputs_and_gradients_are_those_of_peft(bias, shape):
    x, grad = torch.randn(*shape, 7), torch.randn(*shape, 11)
    mine = outcome(layer(bias=bias), x, grad)
    theirs = outcome(layer(bias=bias, kind=type(layer()).__bases__[0]), x, grad)
    for ours, peft in zip(mine, theirs, strict=True):
        torch.testing.assert_close(ours, peft, rtol=1e-5, atol=1e-6)


def test_gradients_in_strides_of_another_layout():
    x, grad = torch.randn(4, 5, 7), torch.randn(5, 4, 11).transpose(0, 1)
    for ours, plain in zip(outcome(layer(), x, grad), outcome(layer(), x, grad.contiguous()), strict=True):
        torch.testing.assert_close(ours, plain)


def test_only_float32_without_dropout_or_merging_takes_this_path(monkeypatch):
    called = []
    monkeypatch.setattr(LoRALinear.__bases__[0], "forward", lambda self, x, *_, **__: called.append(x) or x)
    x = torch.randn(4, 7)
    layer()(x)
    assert not called
    with torch.autocast("cpu", torch.bfloat16):
        layer()(x)
    layer(dropout=0.5)(x)
    layer()(x.bfloat16())
    merged = layer()
    merged.merged_adapters = ["default"]
    merged(x)
    assert len(called) == 4
    layer(dropout=0.5).eval()(x)
    assert len(called) == 4
