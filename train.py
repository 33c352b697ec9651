"""Train a reward model: `python train.py [overrides]` is `rlhf-rm train [overrides]`."""

from rlhf_rm.cli import run

if __name__ == "__main__":
    run("train")
