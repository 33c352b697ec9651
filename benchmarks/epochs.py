"""What one epoch of several methods costs, against the first of them, on the same data, in one run.

The cost of a side is the time of one epoch: what it does once before the first step (such as a frozen
backbone's features of all training pairs) and its steps.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from flops import matrix_peak, useful_flops
from measure import machine
from sides import Job, hold, train
from turns import bars, run_side, say_how_busy, take_steps_in_turns

SAMPLE = 500  # pairs from which the sizes of all are taken
HELD_STEPS = 3  # in which the tensors are watched: the first makes what the optimiser keeps


@dataclass(frozen=True)
class Side:
    """One of the methods that are compared.

    Args:
        what: in words, for the table; may name settings in braces.
        overrides: of the training configuration; may name settings in braces.
        passes: how many forward and backward passes of the whole network over a pair it needs at least,
            by the settings; None where that is no plain number.
        method: whether it is one, of which an epoch means something.
    """

    what: str
    overrides: Sequence[str]
    passes: Callable[[Mapping[str, int]], float] | None = None
    method: bool = True


def compare(
    script: str,
    about: str,
    sides: Mapping[str, Side],
    settings: Mapping[str, int],
    *,
    prepare: Callable[[argparse.Namespace, Path], Sequence[str]] = lambda args, directory: (),
    conclude: Callable[[dict[str, Any]], str] = lambda report: "",
    tensors: bool = False,
    steps: tuple[int, int] = (12, 2),
) -> int:
    """The whole of a script that compares methods; returns its exit status.

    Args:
        script: its file, which is run again for each side.
        about: what it is for.
        sides: by name; the first is what the others are measured against.
        settings: further whole numbers of the command line, with their defaults.
        prepare: called with the command line and a directory; makes files there, and returns overrides.
        conclude: called with the report, to which it may add; returns what else to print.
        tensors: measure also what the tensors of each method hold, in a run of its own.
        steps: how many a run has, and how many of them the warm-up, unless the command line says otherwise.
    """
    args = arguments(about, sides, settings, steps)
    told = {name: getattr(args, name) for name in settings}
    if args.side:
        job = Job.load(args.job)
        told = json.loads((Path(job.directory) / "settings.json").read_text())
        cfg = job.config(overrides=[one.format(**told) for one in sides[args.side].overrides])
        # What an earlier round kept, such as a frozen backbone's features, would be left out of the cost.
        cfg.paths.cache_dir = tempfile.mkdtemp(dir=job.directory)
        Path(args.json).write_text(json.dumps(hold(job, cfg) if job.tensors else train(job, cfg)))
        return 0
    described = machine()
    with tempfile.TemporaryDirectory() as directory:
        job = Job(
            overrides=(
                "data=hh",
                f"data.path={args.data.resolve()}",
                f"model={args.model}",
                *prepare(args, Path(directory)),
                *args.overrides,
            ),
            directory=directory,
            pairs_per_step=args.pairs_per_step,
            steps=args.steps,
            warmup=args.warmup,
        )
        (Path(directory) / "settings.json").write_text(json.dumps(told))
        pairs, tokens, flops = size_of(job)
        peak = matrix_peak("cpu", torch.float32)
        runs = take_steps_in_turns(script, job.save(), list(args.sides), args.rounds)
        held: dict[str, Any] = {}
        if tensors:
            short = replace(job, tensors=True, steps=HELD_STEPS).save()
            held = {side: run_side(script, side, short) for side in args.sides if sides[side].method}
    report = {
        "benchmark": Path(script).stem,
        "machine": described,
        "settings": {
            "data": args.data.name,
            "model": args.model,
            "overrides": args.overrides,
            "pairs_per_step": args.pairs_per_step,
            "pairs_per_epoch": pairs,
            "steps": args.steps,
            "warmup_steps": args.warmup,
            "rounds": args.rounds,
            **told,
        },
        "matrix_peak_flops": peak,
        "sides": {
            side: summary(rounds, pairs, args.pairs_per_step) | held.get(side, {})
            for side, rounds in runs.items()
        },
    }
    first = next(iter(report["sides"].values()))["rounds_epoch_seconds"]
    for name, figures in report["sides"].items():
        figures["ratios"] = [
            one / base for one, base in zip(figures["rounds_epoch_seconds"], first, strict=True)
        ]
        passes = sides[name].passes
        figures["useful_tokens_per_second"] = figures["pairs_per_second"] * tokens
        if passes is not None:
            needed = passes(told) * flops
            figures["share_of_matrix_peak"] = figures["pairs_per_second"] * needed / peak
    more = conclude(report)
    args.json.write_text(json.dumps(report, indent=1) + "\n")
    bars(
        {name: one["epoch_seconds"] for name, one in report["sides"].items() if sides[name].method},
        f"seconds of an epoch, {args.model}",
        args.json.with_suffix(".png"),
    )
    print_report(report, {name: side.what.format(**told) for name, side in sides.items() if side.method})
    print(more, end="")
    return 0


def size_of(job: Job) -> tuple[int, float, float]:
    """Training pairs of an epoch, distinct tokens of a pair, and the operations that a pair needs."""
    run = job.build(job.config())
    split = run.datamodule.split("train")
    trees = [split.trees[i] for i in range(min(SAMPLE, len(split.sizes)))]
    tokens = sum(tree.size("shared") for tree in trees) / len(trees)
    return len(split), tokens, useful_flops(run.model.network.config, trees) / len(trees)


def summary(rounds: list[dict[str, Any]], pairs: int, pairs_per_step: int) -> dict[str, Any]:
    """Medians over the rounds, and what an epoch takes by them."""
    steps = [statistics.median(step) for step in zip(*(run["step_seconds"] for run in rounds), strict=True)]
    once = statistics.median(run["preparation_seconds"] for run in rounds)
    epoch = pairs / pairs_per_step
    return {
        "preparation_seconds": once,
        "pairs_per_second": pairs_per_step / statistics.mean(steps),
        "epoch_seconds": once + epoch * statistics.mean(steps),
        "rounds_epoch_seconds": [
            run["preparation_seconds"] + epoch * statistics.mean(run["step_seconds"]) for run in rounds
        ],
        "memory_above_mb": statistics.median(run["memory_above_mb"] for run in rounds),
        "cores_busy_with_other_work": max(run["cores_busy_with_other_work"] for run in rounds),
        "rounds": rounds,
    }


def print_report(report: dict[str, Any], what: Mapping[str, str]) -> None:
    """Print the figures."""
    sides, settings = report["sides"], report["settings"]
    busy = [side["cores_busy_with_other_work"] for side in sides.values() if _is_told(side)]
    say_how_busy(max(busy, default=0.0))
    print(f"an epoch of {settings['pairs_per_epoch']:,} pairs, {settings['pairs_per_step']} a step")
    first = next(iter(sides.values()))["epoch_seconds"]
    for side, figures in sides.items():
        if side not in what:
            continue
        print(
            f"  {what[side]:<48}{figures['epoch_seconds']:8.1f} s"
            f"  ratio {figures['epoch_seconds'] / first:6.2f}"
            f" ({min(figures['ratios']):.2f} to {max(figures['ratios']):.2f})"
            f"{figures['pairs_per_second']:8.2f} pairs/s {figures['useful_tokens_per_second']:9,.0f} tokens/s"
            + (
                f" {figures['share_of_matrix_peak']:.1%} of the matrix peak"
                if "share_of_matrix_peak" in figures
                else ""
            )
            + f"  ({figures['preparation_seconds']:.1f} s of it once,"
            f" {figures['memory_above_mb']:.0f} MB peak memory above that before the first step)"
        )


def _is_told(side: Mapping[str, Any]) -> bool:
    """Whether steps took long enough to tell who else was at work: the clock of cores ticks in 10 ms."""
    return sum(sum(run["step_seconds"]) for run in side["rounds"]) > 1


def arguments(
    about: str, sides: Mapping[str, Side], settings: Mapping[str, int], steps: tuple[int, int]
) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="HH dialogues, plain or .gz")
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--model", default="llama_12m", help="a file of conf/model")
    for name, default in settings.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    parser.add_argument("--sides", nargs="+", choices=sides, default=list(sides))
    parser.add_argument("--pairs-per-step", type=int, default=8)
    parser.add_argument(
        "--steps", type=int, default=steps[0], help="of each run, those of the warm-up included"
    )
    parser.add_argument("--warmup", type=int, default=steps[1], help="first steps, left out of the speed")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side")
    parser.add_argument(
        "--set",
        dest="overrides",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="further overrides of the configuration",
    )
    parser.add_argument("--side", choices=sides, help=argparse.SUPPRESS)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.json or not (args.side or args.data):
        parser.error("--data and --json are needed")
    if not 0 < args.warmup < args.steps:
        parser.error("--warmup must be at least 1, and less than --steps")
    return args
