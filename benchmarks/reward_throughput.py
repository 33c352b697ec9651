"""Pairs a second and peak memory of reward-model training, this project against a peer, in one run.

    python benchmarks/reward_throughput.py --peer trl packed --data hh.jsonl.gz --json out.json

Every run is a process of its own, so that its memory is its own; the sides take turns, so that a machine
that slows down slows both. Exits with 1 if the losses of the first steps differ by more than --tolerance.
Beside OUT.json it leaves OUT.png. Data with K responses a prompt are counted in prompts, and TRL has none.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flops import matrix_peak
from measure import machine
from sides import SIDES, Job, prepare
from turns import bars, say_how_busy, take_turns

PEERS = {
    "trl": "TRL's RewardTrainer: padded to the longest response of a step",
    "packed": "this project, packed without sharing: every response whole, as OpenRLHF trains",
    "padded": "this project, padded",
    "flex": "this project with attention=flex",
    "sdpa": "this project with attention=sdpa",
}


def main() -> int:
    """Entry of the script; returns the exit status."""
    args = arguments()
    if args.side:
        Path(args.json).write_text(json.dumps(SIDES[args.side](Job.load(args.job))))
        return 0
    report = measured(args)
    args.json.write_text(json.dumps(report, indent=1) + "\n")
    bars(
        {side: figures["pairs_per_second"] for side, figures in report["sides"].items()},
        f"pairs a second, {report['settings']['model']}",
        args.json.with_suffix(".png"),
    )
    return print_report(report)


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Run all sides; returns everything that was measured."""
    about = machine()
    with tempfile.TemporaryDirectory() as directory:
        job = Job(
            overrides=(
                f"data={args.source}",
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
        prepared = prepare(job)
        peak = matrix_peak(args.device, getattr(torch, prepared["dtype"]))
        runs = take_turns(__file__, job.save(), ["ours", *args.peer], args.rounds)
    sides = {side: summary(rounds, args.pairs_per_step) for side, rounds in runs.items()}
    for figures in sides.values():
        pairs = figures["pairs_per_second"]
        figures["useful_tokens_per_second"] = pairs * prepared["distinct_tokens_a_pair"]
        figures["share_of_matrix_peak"] = pairs * prepared["useful_flops_a_pair"] / peak
    return {
        "benchmark": "reward_throughput",
        "machine": about,
        "settings": {
            "data": args.data.name,
            "model": args.model,
            "overrides": args.overrides,
            "pairs_per_step": args.pairs_per_step,
            "steps": args.steps,
            "warmup_steps": args.warmup,
            "rounds": args.rounds,
            "tolerance": args.tolerance,
            **prepared,
        },
        "matrix_peak_flops": peak,
        "sides": sides,
        "peers": {peer: compare(sides["ours"], sides[peer], args.parity_steps) for peer in args.peer},
    }


def summary(rounds: list[dict[str, Any]], pairs_per_step: int) -> dict[str, Any]:
    """Medians over the rounds: all take the same steps, so a disturbance costs one step of one round."""
    seconds = [statistics.median(step) for step in zip(*(run["step_seconds"] for run in rounds), strict=True)]
    return {
        "pairs_per_second": pairs_per_step * len(seconds) / sum(seconds),
        "memory_above_mb": statistics.median(run["memory_above_mb"] for run in rounds),
        "cores_busy_with_other_work": max(run["cores_busy_with_other_work"] for run in rounds),
        "rounds": rounds,
    }


def compare(ours: dict[str, Any], peer: dict[str, Any], parity_steps: int) -> dict[str, Any]:
    """Ratios of the medians, and how far the losses of the two sides are apart in any round."""
    losses = [np.array([run["losses"] for run in side["rounds"]]) for side in (ours, peer)]
    apart = np.abs(losses[0] - losses[1])
    return {
        "ratio_pairs_per_second": ours["pairs_per_second"] / peer["pairs_per_second"],
        "ratio_memory": ours["memory_above_mb"] / peer["memory_above_mb"],
        "parity_steps": parity_steps,
        "largest_difference": float(apart[:, :parity_steps].max()),
        "largest_difference_all_steps": float(apart.max()),
    }


def print_report(report: dict[str, Any]) -> int:
    """Print the figures; returns 1 if a parity check failed."""
    failed, tolerance = 0, report["settings"]["tolerance"]
    peak, dtype = report["matrix_peak_flops"], report["settings"]["dtype"]
    print(f"\na product of matrices runs at {peak / 1e12:.3g} TFLOP/s in {dtype} here")
    say_how_busy(max(side["cores_busy_with_other_work"] for side in report["sides"].values()))
    for peer, compared in report["peers"].items():
        print(f"\nThis project against {PEERS[peer]}")
        for side in ("ours", peer):
            figures = report["sides"][side]
            print(
                f"  {side:<7}{figures['pairs_per_second']:7.2f} pairs/s"
                f"{figures['useful_tokens_per_second']:9,.0f} useful tokens/s"
                f"{figures['share_of_matrix_peak']:8.1%} of the matrix peak"
                f"{figures['memory_above_mb']:9.0f} MB peak memory above that before the first step"
            )
        difference = compared["largest_difference"]
        print(
            f"largest difference of losses in the first {compared['parity_steps']} steps: {difference:.1e} "
            f"(allowed: {tolerance:.0e})"
        )
        if not difference <= tolerance:
            print(f"the losses of the two sides differ: the figures for {peer} mean nothing", file=sys.stderr)
            failed = 1
        print(f"ratio memory: {compared['ratio_memory']:.2f}")
        print(f"ratio pairs/s: {compared['ratio_pairs_per_second']:.2f}")
    return failed


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", nargs="+", choices=PEERS, default=["trl"], help="whom to compare with")
    parser.add_argument("--data", type=Path, help="a file of preferences, plain or .gz")
    parser.add_argument("--source", default="hh", help="what kind of file it is: a file of conf/data")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--model", default="llama_12m", help="a file of conf/model")
    parser.add_argument("--pairs-per-step", type=int, default=8)
    parser.add_argument("--steps", type=int, default=16, help="of each run, those of the warm-up included")
    parser.add_argument("--warmup", type=int, default=3, help="first steps, left out of the speed")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side")
    parser.add_argument("--parity-steps", type=int, default=5, help="first steps whose losses must agree")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of the losses of two sides")
    parser.add_argument(
        "--set",
        dest="overrides",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="further overrides of the configuration",
    )
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.json or not (args.side or args.data):
        parser.error("--data and --json are needed")
    if not 0 < args.parity_steps <= args.steps or not 0 < args.warmup < args.steps:
        parser.error("--warmup and --parity-steps must be at least 1, and fewer than --steps")
    return args


if __name__ == "__main__":
    sys.exit(main())
