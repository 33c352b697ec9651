"""What training the members of a vote costs, against one reward model on the same data, in one run.

    python benchmarks/ensemble.py --data hh.jsonl.gz --json out.json

Every side takes the same batches, the members each in an order of its own within as many steps as there
are members, since a few steps with other pairs have other lengths. So --steps and --warmup are multiples of
--size; the layers that members share run once in that many steps, too.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from epochs import Side, compare

from rlhf_rm.data.ensemble import EnsembleDataModule, SharedBatchSampler
from rlhf_rm.data.loading import StepLoader, step_loader, step_sampler


class SameBatches(EnsembleDataModule):
    """Has the batches of one reward model, for members of all kinds."""

    def train_dataloader(self) -> StepLoader:
        """As in the base class, but for the order."""
        assert self.trainer is not None
        sizes = self.split("train").sizes
        sampler = step_sampler(self.trainer, sizes, batch_size=self.batch_size, seed=self.seed)
        return step_loader(self._step, SharedBatchSampler(sampler, self.size), self.trainer, self.workers)


def frozen_passes(told: Mapping[str, int]) -> float:
    """Frozen weights need no gradients of their own: 4 of 6 operations are left."""
    return told["size"] * 4 / 6


MEMBERS = ("method=ensemble", "members.size={size}", "method.datamodule._target_=ensemble.SameBatches")
LORA = (*MEMBERS, "members.kind=lora", "adapter=lora")
SIDES = {
    "one": Side("one reward model, every weight trained", ("method=reward",), lambda _: 1),
    "head": Side("{size} heads over a frozen backbone", (*MEMBERS, "members.kind=head")),
    "lora": Side("{size} adapters in all layers", LORA, frozen_passes),
    # The best two matrices in the paper of LoRA (Hu et al., arXiv 2106.09685, table 5).
    "lora_qv": Side(
        "{size} adapters of queries and values, all layers",
        (*LORA, "adapter.targets=[q_proj,v_proj]"),
        frozen_passes,
    ),
    "lora_top": Side(
        "{size} adapters in the top {top_layers} layers", (*LORA, "adapter.top_layers={top_layers}")
    ),
}


def prepare(args: argparse.Namespace, directory: Path) -> Sequence[str]:
    """Refuse steps in which the members would not have had the same batches."""
    if args.steps % args.size or args.warmup % args.size:
        raise SystemExit(
            f"--steps {args.steps} and --warmup {args.warmup} must be multiples of --size {args.size}."
        )
    return ()


if __name__ == "__main__":
    sys.exit(
        compare(__file__, str(__doc__), SIDES, {"size": 10, "top_layers": 2}, prepare=prepare, steps=(20, 10))
    )
