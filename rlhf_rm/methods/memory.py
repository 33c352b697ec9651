"""What is said where a pass does not fit into memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from rlhf_rm.errors import UserError


@contextmanager
def explaining_memory(batch: Any) -> Iterator[None]:
    """Let a pass that does not fit into memory say how large it was, and what to lower.

    Raises:
        UserError: it did not fit.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        ids = getattr(getattr(batch, "rows", None), "input_ids_RT", None)
        size = "" if ids is None else f" over {ids.shape[0]} rows of {ids.shape[1]:,} tokens"
        raise UserError(
            f"out of memory in a pass{size}: lower loader.micro_tokens, for long dialogues model.max_length, "
            "or set model.gradient_checkpointing=true or adapter=lora; go on with resume=auto."
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory was what failed; PyTorch says so of a CPU's in words alone."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate" in str(error)
