"""Which of several processes this one is, before there is a trainer to ask."""

import os

# torchrun, SLURM, and Lightning for the ranks that it starts itself.
VARIABLES = ("RANK", "SLURM_PROCID", "LOCAL_RANK")


def is_first_rank() -> bool:
    """Whether this process is the one that speaks and writes for all; alone it is."""
    own = next((os.environ[name] for name in VARIABLES if name in os.environ), "0")
    return own == os.environ.get("NODE_RANK", "0") == "0"
