"""LoRA over a backbone that is kept in 4 bits."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from rlhf_rm.errors import UserError
from rlhf_rm.models.adapter import LoRA

QUANTIZATIONS = ("nf4", "fp4")


@dataclass(frozen=True)
class QLoRA(LoRA):
    """Train low-rank updates of matrices that are frozen in 4 bits, and the head at full rank.

    The matrices are widened to the dtype of the other weights, layer by layer, where they are used. An
    export holds them widened and with the updates merged in, so it is read without `bitsandbytes`.
    Source: Dettmers et al. 2023 (arXiv 2305.14314).

    Args:
        quantization: ``nf4`` (levels of a normal distribution) or ``fp4``.
        double_quantization: whether the scales of the blocks are quantised too.
    """

    quantization: str
    double_quantization: bool

    def loading(self, dtype: torch.dtype) -> dict[str, Any]:
        """Load the linear layers of the backbone in 4 bits.

        Raises:
            UserError: an unknown quantisation, or `bitsandbytes` is not installed.
        """
        from transformers import BitsAndBytesConfig

        if self.quantization not in QUANTIZATIONS:
            raise UserError(
                f"adapter.quantization={self.quantization} is unknown: use {' or '.join(QUANTIZATIONS)}."
            )
        if importlib.util.find_spec("bitsandbytes") is None:
            raise UserError(
                "adapter=qlora needs bitsandbytes, which is not installed: pip install -c constraints.txt -e "
                "'.[qlora]', or use adapter=lora."
            )
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=self.quantization,
            bnb_4bit_use_double_quant=self.double_quantization,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=["score", "classifier", "pooler", "lm_head"],
        )
        return {"quantization_config": config}

    def apply(self, network: PreTrainedModel, *, train_head: bool) -> None:
        """As :class:`LoRA`."""
        super().apply(network, train_head=train_head)
        modules: Iterator[Any] = network.modules()
        for module in modules:
            if hasattr(module, "support_avx512bf16_for_cpu"):
                # Some CPUs would evaluate in bfloat16 what was trained in float32, and only certain shapes.
                module.support_avx512bf16_for_cpu = False
