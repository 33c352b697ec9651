"""What a step of MetaRM costs, against a plain step and a forward and backward pass of its responses, in one
run.

python benchmarks/meta_step.py --data hh.jsonl.gz --json out.json
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

from rlhf_rm.data.meta import MetaStep
from rlhf_rm.methods.meta import MetaRewardModule


class ResponsesAlone(MetaRewardModule):
    """Takes the gradient of the objective on a step's responses, and changes nothing."""

    def training_step(self, step: MetaStep, batch_idx: int) -> None:  # type: ignore[override]
        """One forward and backward pass over the responses."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        value = self.objective(step.responses)
        optimizer.zero_grad()
        self.advance(value)  # without a gradient the optimiser does nothing


META = ("method=meta", "meta.prompts={prompts}", "meta.k={k}")
SIDES = {
    "plain": Side("preferences alone", ("method=reward", "meta.responses=null"), lambda _: 1),
    "responses": Side(
        "forward and backward of {prompts} prompts of {k}",
        (*META, "method.module._target_=meta_step.ResponsesAlone"),
    ),
    "meta": Side("MetaRM", META),
}


def prepare(args: argparse.Namespace, directory: Path) -> Sequence[str]:
    """Write responses to the prompts of the data: their own two, and some of other prompts."""
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
    """The ratio of the steps' times, and the memory beside a copy of the weights."""
    seconds, held = {}, {}
    for side, found in report["sides"].items():
        rounds = found["rounds"]
        steps = [
            statistics.median(step) for step in zip(*(run["step_seconds"] for run in rounds), strict=True)
        ]
        seconds[side], held[side] = statistics.mean(steps), found["tensors_above_mb"]
    if set(seconds) < set(SIDES):
        return ""
    ratio = seconds["meta"] / (seconds["plain"] + seconds["responses"])
    report["ratio"] = ratio
    report["tensors_above_plain_mb"] = held["meta"] - held["plain"]
    return (
        f"\na step of MetaRM {seconds['meta']:.3f} s, a plain one {seconds['plain']:.3f} s, its responses "
        f"alone "
        f"{seconds['responses']:.3f} s: ratio {ratio:.3f}\n"
        f"its tensors hold {report['tensors_above_plain_mb']:+.2f} MB beside the plain step's "
        f"{held['plain']:.2f} MB; a copy of the weights is {report['sides']['meta']['weights_mb']:.2f} MB\n"
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
    )
    sys.exit(status)
