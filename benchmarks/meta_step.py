"""What a step of MetaRM costs, against a plain step and a forward and backward pass of its responses.

    python benchmarks/meta_step.py --data hh.jsonl.gz --json out.json

Steps of three kinds take turns, so --steps and --warmup are multiples of 3.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from epochs import Side, compare
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from sides import CONF
from torch import Tensor

from rlhf_rm.data.meta import MetaStep
from rlhf_rm.methods.meta import MetaRewardModule
from rlhf_rm.methods.reward import RewardModule
from rlhf_rm.methods.step import StepModule


class InTurns(MetaRewardModule):
    """Takes three kinds of steps in turns on the same data, so that a machine that slows down slows all.

    A plain one, a forward and backward pass over the responses alone, and MetaRM's.
    """

    def training_step(self, step: MetaStep, batch_idx: int) -> None:  # type: ignore[override]
        """The next kind of step, on the data of the last plain one."""
        self.kind = KINDS[batch_idx % len(KINDS)]
        if self.kind == "plain":
            self.taken = step
            RewardModule.training_step(self, step.preferences, batch_idx)
        elif self.kind == "responses":
            optimizer: Any = self.optimizers()
            optimizer.zero_grad()
            value = self.objective(self.taken.responses)
            optimizer.zero_grad()
            self.advance(value)  # without a gradient the optimiser does nothing
        else:
            super().training_step(self.taken, batch_idx)

    def accumulate(self, *args: Any) -> Tensor:
        """MetaRM's only in its own turn."""
        climbs = self.kind == "meta"
        return super().accumulate(*args) if climbs else StepModule.accumulate(self, *args)


KINDS = ("plain", "responses", "meta")
META = ("method=meta", "meta.prompts={prompts}", "meta.k={k}")
SIDES = {
    "plain": Side("preferences alone", ("method=reward", "meta.responses=null"), lambda _: 1),
    "meta": Side("MetaRM, {prompts} prompts of {k}", META),
    "turns": Side(
        "the two and the responses alone in turns",
        (*META, "method.module._target_=meta_step.InTurns"),
        method=False,
    ),
}


def prepare(args: argparse.Namespace, directory: Path) -> Sequence[str]:
    """Write responses to the prompts of the data: their own two, and some of other prompts."""
    if args.steps % len(KINDS) or args.warmup % len(KINDS):
        raise SystemExit(
            f"--steps {args.steps} and --warmup {args.warmup} must be multiples of {len(KINDS)}."
        )
    with initialize_config_dir(str(CONF), version_base="1.3"):
        source = instantiate(compose("train", ["data=hh", f"data.path={args.data.resolve()}"]).data)
    pairs = source.pairs("train")
    path = directory / "responses.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for i, pair in enumerate(pairs):
            others = [pairs[(i + 37 * n) % len(pairs)].chosen for n in range(1, args.k - 1)]
            prompt = [message._asdict() for message in pair.messages]
            file.write(
                json.dumps({"prompt": prompt, "responses": [pair.chosen, pair.rejected, *others]}) + "\n"
            )
    return (f"meta.responses={path}",)


def conclude(report: dict[str, Any]) -> str:
    """The ratio of the steps' times, on the same data each, and the memory beside a copy of the weights."""
    sides = report["sides"]
    if set(sides) < set(SIDES):
        return ""
    turns = [
        run["step_seconds"][i : i + len(KINDS)]
        for run in sides["turns"]["rounds"]
        for i in range(0, len(run["step_seconds"]), len(KINDS))
    ]
    ratios = sorted(meta / (plain + responses) for plain, responses, meta in turns)
    mean = dict(zip(KINDS, map(statistics.mean, zip(*turns, strict=True)), strict=True))
    held = {side: sides[side]["tensors_mb"] for side in ("plain", "meta")}
    report |= {"seconds": mean, "ratio": statistics.median(ratios), "ratios": ratios}
    return (
        f"\na step of MetaRM {mean['meta']:.3f} s, a plain one {mean['plain']:.3f} s, its responses alone "
        f"{mean['responses']:.3f} s\n"
        f"ratio {report['ratio']:.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f} in {len(ratios)} turns)\n"
        f"its tensors hold {held['meta']:.2f} MB, the plain step's {held['plain']:.2f} MB: "
        f"{held['meta'] - held['plain']:+.2f} MB; a copy of the weights is "
        f"{sides['meta']['weights_mb']:.2f} MB\n"
    )


if __name__ == "__main__":
    status = compare(
        __file__,
        str(__doc__),
        SIDES,
        {"prompts": 2, "k": 5},
        prepare=prepare,
        conclude=conclude,
        tensors=True,
        steps=(30, 3),
    )
    sys.exit(status)
