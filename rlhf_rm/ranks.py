"""Which of several processes this one is, before there is a trainer to ask."""

import os

# What SLURM sets, and Lightning for the ranks that it starts itself; of them the first has 0 in all.
OTHERS = ("SLURM_PROCID", "LOCAL_RANK", "NODE_RANK")

# Set for a command that is the work of one process, however many a launcher starts.
ONE_PROCESS = "RLHF_RM_ONE_PROCESS"


def is_superfluous() -> bool:
    """Whether this process was started beside the one that does all the work."""
    return ONE_PROCESS in os.environ and not is_first_rank()


def is_first_rank() -> bool:
    """Whether this process is the one that speaks and writes for all; alone it is."""
    if "RANK" in os.environ:  # torchrun's, which counts over all machines
        return os.environ["RANK"] == "0"
    return all(os.environ.get(name, "0") == "0" for name in OTHERS)


def rank_name() -> str:
    """What tells this rank from the others, such as ``3``, or ``1 of node 2``; empty for the first."""
    if is_first_rank():
        return ""
    if "RANK" in os.environ:
        return os.environ["RANK"]
    own = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_PROCID", "0"))
    node = os.environ.get("NODE_RANK", "0")
    return own if node == "0" else f"{own} of node {node}"
