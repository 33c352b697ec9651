"""Silence for what other libraries say that no user of ours can act on."""

import logging
import os
import warnings


def quiet() -> None:
    """Keep our own warnings; drop hints of Lightning and `transformers` that do not concern our runs."""
    import torch
    from transformers.utils import logging as transformers_logging

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed would say that it looked for a GPU

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # of faster kernels that one might install
    for message in (
        ".*does not have many workers.*",
        ".*The number of training batches.*",
        ".*LeafSpec.*",
        ".*exists and is not empty.*",
        ".*Trying to infer the `batch_size`.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
        ".*Checkpoint directory.*",
        ".*sync_dist=True.*",
        ".*gradient_checkpointing_enable.*",
        ".*`torch.distributed.\\w+` is deprecated.*",  # DeepSpeed calls it
    ):
        warnings.filterwarnings("ignore", message=message)
