"""Pairs a second of scoring, as `evaluate` and `vote` do it, against training the same model, in one run.

    python benchmarks/scoring.py --data hh.jsonl.gz --json out.json

A step is --pairs-per-step pairs of training, and of scoring loader.eval_batch_size that are packed together.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from flops import matrix_peak, work_a_pair
from measure import Recorder, machine
from sides import SIDES, Job, training_order
from turns import bars, say_how_busy, take_turns

from rlhf_rm.data.batch import PairBatch, Step
from rlhf_rm.data.preference import PreferenceDataModule
from rlhf_rm.methods.scoring import pair_rewards
from rlhf_rm.models.reward import RewardModel


def score(job: Job) -> dict[str, Any]:
    """Score training pairs, and measure."""
    cfg = job.config()
    run = job.build(cfg)
    assert isinstance(run.model, RewardModel)
    assert isinstance(run.datamodule, PreferenceDataModule)
    recorder = Recorder()

    def timed() -> Iterator[Step[PairBatch]]:
        loader = run.datamodule.evaluation_dataloader("train")
        recorder.begin()
        for step in islice(loader, job.steps):
            yield step
            recorder.end_step(0.0)

    pair_rewards(run.model.eval(), timed())
    batch, split = cfg.loader.eval_batch_size, run.datamodule.split("train")
    scored = split.trees[: job.steps * batch]
    work = work_a_pair(run.model.network.config, scored, training=False)
    return work | recorder.result(pairs_per_step=batch, warmup=job.warmup)


def train(job: Job) -> dict[str, Any]:
    """Train on such pairs, and measure."""
    cfg = job.config()
    run = job.build(cfg)
    assert isinstance(run.model, RewardModel)
    work = work_a_pair(run.model.network.config, list(training_order(job, cfg, run)), training=True)
    return work | SIDES["ours"](job)


def main() -> int:
    """Entry of the script; returns the exit status."""
    args = arguments()
    if args.side:
        job = Job.load(args.job)
        Path(args.json).write_text(json.dumps(score(job) if args.side == "scoring" else train(job)))
        return 0
    about = machine()
    with tempfile.TemporaryDirectory() as directory:
        job = Job(
            overrides=(
                "data=hh",
                f"data.path={args.data.resolve()}",
                f"model={args.model}",
                *args.overrides,
            ),
            directory=directory,
            pairs_per_step=args.pairs_per_step,
            steps=args.steps,
            warmup=args.warmup,
            device=args.device,
        )
        runs = take_turns(__file__, job.save(), ["training", "scoring"], args.rounds)
    peak = matrix_peak(args.device, torch.float32)
    sides = {
        side: {
            "pairs_per_second": statistics.median(run["pairs_per_second"] for run in rounds),
            "memory_above_mb": statistics.median(run["memory_above_mb"] for run in rounds),
            "rounds": rounds,
        }
        for side, rounds in runs.items()
    }
    for side, figures in sides.items():
        speed, work = figures["pairs_per_second"], runs[side][0]
        figures["useful_tokens_per_second"] = speed * work["distinct_tokens_a_pair"]
        figures["share_of_matrix_peak"] = speed * work["useful_flops_a_pair"] / peak
    ratio = sides["scoring"]["pairs_per_second"] / sides["training"]["pairs_per_second"]
    settings = {"data": args.data.name, "model": args.model, "overrides": args.overrides, "steps": args.steps}
    report = {"benchmark": "scoring", "machine": about, "settings": settings, "sides": sides, "ratio": ratio}
    report["matrix_peak_flops"] = peak
    args.json.write_text(json.dumps(report, indent=1) + "\n")
    speeds = {side: figures["pairs_per_second"] for side, figures in sides.items()}
    bars(speeds, f"pairs a second, {args.model}", args.json.with_suffix(".png"))
    say_how_busy(max(run["cores_busy_with_other_work"] for rounds in runs.values() for run in rounds))
    for side, figures in sides.items():
        print(
            f"  {side:<9}{figures['pairs_per_second']:8.2f} pairs/s"
            f"{figures['useful_tokens_per_second']:9,.0f} useful tokens/s"
            f"{figures['share_of_matrix_peak']:8.1%} of the matrix peak"
            f"{figures['memory_above_mb']:8.0f} MB peak memory above that before the first step"
        )
    print(f"ratio pairs/s: {ratio:.2f}")
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="HH dialogues, plain or .gz")
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--model", default="llama_12m", help="a file of conf/model")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--pairs-per-step", type=int, default=8, help="of training")
    parser.add_argument("--steps", type=int, default=10, help="of each run, those of the warm-up included")
    parser.add_argument("--warmup", type=int, default=2, help="first steps, left out of the speed")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side")
    parser.add_argument("--set", dest="overrides", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--side", choices=("training", "scoring"), help=argparse.SUPPRESS)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.json or not (args.side or args.data):
        parser.error("--data and --json are needed")
    if not 1 < args.warmup < args.steps:
        parser.error("--warmup must be at least 2, and fewer than --steps")
    return args


if __name__ == "__main__":
    sys.exit(main())
