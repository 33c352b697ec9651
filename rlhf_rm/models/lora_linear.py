"""A linear layer with a low-rank update in float32, in fewer passes over its tokens.

Shape legend: T tokens (of any leading dimensions), I inputs, O outputs, R rank.
"""

from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class LoRALinear(Linear):
    """As in `peft`, but the update is added in place, and only its inner states are kept beside the inputs.

    Only in float32, and without dropout: else `peft` goes on as it does.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Outputs (…, O) of inputs (…, I)."""
        if args or kwargs or not self._takes(x):
            return super().forward(x, *args, **kwargs)
        (name,) = self.active_adapters
        base: Any = self.get_base_layer()
        out: Tensor = _Linear.apply(
            x,
            base.weight,
            self.lora_A[name].weight,
            self.lora_B[name].weight,
            self.scaling[name],
            base.bias,
        )
        return out

    def _takes(self, x: Tensor) -> bool:
        base: Any = self.get_base_layer()
        return (
            len(self.active_adapters) == 1
            and self.active_adapters[0] in self.lora_A
            and not (self.disable_adapters or self.merged or self.lora_variant)
            and x.dtype == base.weight.dtype == torch.float32
            and not torch.is_autocast_enabled(x.device.type)
            and not base.weight.requires_grad
            and not (base.bias is not None and base.bias.requires_grad)
            and not (self.training and isinstance(self.lora_dropout[self.active_adapters[0]], nn.Dropout))
            and not any(self.lora_bias.values())
            # In shards of DeepSpeed a weight is there only while its own layer runs.
            and not hasattr(base.weight, "ds_id")
        )


class _Linear(torch.autograd.Function):
    """x Wᵀ + b + s (x Aᵀ) Bᵀ, with W and b frozen."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w_OI: Tensor, a_RI: Tensor, b_OR: Tensor, scale: float, bias_O: Tensor | None
    ) -> Tensor:
        x_TI = x.reshape(-1, x.shape[-1])
        h_TR = x_TI @ a_RI.t()
        # In place: a sum of the weights is another whole matrix, written once for every pass.
        out_TO = F.linear(x_TI, w_OI, bias_O).addmm_(h_TR, b_OR.t(), alpha=scale)
        ctx.save_for_backward(x_TI, h_TR, w_OI, a_RI, b_OR)
        ctx.scale, ctx.shape = scale, x.shape
        return out_TO.view(*x.shape[:-1], w_OI.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_TI, h_TR, w_OI, a_RI, b_OR = ctx.saved_tensors
        grad_TO = grad.reshape(-1, grad.shape[-1])
        grad_TR = (grad_TO @ b_OR).mul_(ctx.scale)
        grad_x = (grad_TO @ w_OI).addmm_(grad_TR, a_RI).view(ctx.shape) if ctx.needs_input_grad[0] else None
        # Products with few rows are faster than products with few columns.
        return grad_x, None, grad_TR.t() @ x_TI, (h_TR.t() @ grad_TO).mul_(ctx.scale).t(), None, None
