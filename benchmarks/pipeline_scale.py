"""What reading, encoding and packing cost by number of pairs, and a training step by length, in one run.

    python benchmarks/pipeline_scale.py --data hh.jsonl.gz --json out.json

The file is repeated, with another prompt in each repetition, until it has --pairs pairs. Every size is a
process of its own with an empty cache. Lengths are synthetic pairs that share half of their tokens.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import PrivateMemory, Recorder, machine
from sides import Job

from rlhf_rm.data.packing import Packing, Tree
from rlhf_rm.data.preference import PreferenceDataModule
from rlhf_rm.models.reward import RewardModel
from rlhf_rm.plots.style import BLUE, new_figure, style

MARK = "\n\nHuman:"


def repeated(path: Path, pairs: int) -> Iterator[str]:
    """Lines of HH dialogues, each repetition with a number in front of its prompts."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    for i in range(pairs):
        number, row = i // len(rows), rows[i % len(rows)]
        yield json.dumps({side: row[side].replace(MARK, f"{MARK} ({number})", 1) for side in row})


def prepare(job: Job) -> dict[str, Any]:
    """Read, split, encode and pack all training pairs once; what that takes."""
    cfg = job.config()
    recorder = Recorder()
    recorder.begin()
    began = time.perf_counter()
    with PrivateMemory() as memory:
        run = job.build(cfg)
        assert isinstance(run.datamodule, PreferenceDataModule)
        split = run.datamodule.split("train")
        encoded = time.perf_counter()
        size = job.pairs_per_step
        order = np.random.default_rng(0).permutation(len(split.sizes))
        for at in range(0, len(order) - size + 1, size):
            split.step(order[at : at + size].tolist())
        packed = time.perf_counter()
    recorder.end_step(0.0)
    recorder.end_step(0.0)
    return {
        "pairs": len(split),
        "encode_seconds": encoded - began,
        "pack_seconds": packed - encoded,
        "private_memory_above_mb": memory.above_mb,
        "memory_above_mb": recorder.result(pairs_per_step=1, warmup=1)["memory_above_mb"],
    }


def step_seconds(job: Job, length: int) -> dict[str, Any]:
    """Seconds of forward and backward passes over pairs of so many distinct tokens: the best of five."""
    cfg = job.config(overrides=["model.max_length=2048"])
    model = job.build(cfg).model
    assert isinstance(model, RewardModel)
    model.train()
    rng = np.random.default_rng(0)
    trees = []
    for _ in range(job.pairs_per_step):
        prefix, *own = (rng.integers(9, 999, n) for n in (length // 2, length // 4, length // 4))
        branches = tuple(np.concatenate([prefix, one]).astype(np.int32) for one in own)
        trees.append(Tree(branches, length // 2, (length // 2,) * 2))
    packing = Packing("shared", cfg.loader.row_tokens, cfg.loader.micro_tokens, 0, row_multiple=1)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for rows, _ in packing.pack(trees):
            model(rows).sum().backward()
        best = min(best, time.perf_counter() - began)
    return {"length": length, "step_seconds": best, "tokens_per_second": length * job.pairs_per_step / best}


def in_a_process(arguments: list[str], directory: str) -> dict[str, Any]:
    """What this script says when it is run again for one size or length."""
    result = Path(directory) / "one.json"
    command = [sys.executable, __file__, *arguments, "--job", f"{directory}/job.json", "--json", str(result)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    told: dict[str, Any] = json.loads(result.read_text())
    print({name: round(value, 2) for name, value in told.items()}, flush=True)
    return told


def main() -> int:
    """Entry of the script; returns the exit status."""
    args = arguments()
    if args.length or args.size:
        job = Job.load(args.job)
        told = step_seconds(job, args.length) if args.length else prepare(job)
        Path(args.json).write_text(json.dumps(told))
        return 0
    report: dict[str, Any] = {"benchmark": "pipeline_scale", "machine": machine(), "pairs": [], "lengths": []}
    for pairs in args.pairs:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "pairs.jsonl"
            with path.open("w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in repeated(args.data, pairs))
            job = Job(("data=hh", f"data.path={path}", f"model={args.model}"), directory, 16, 1, 1)
            job.save()
            report["pairs"].append({"given": pairs, **in_a_process(["--size", str(pairs)], directory)})
    with tempfile.TemporaryDirectory() as directory:
        Job(("data=hh", f"data.path={args.data.resolve()}", f"model={args.model}"), directory, 8, 1, 1).save()
        report["lengths"] = [in_a_process(["--length", str(n)], directory) for n in args.lengths]
    args.json.write_text(json.dumps(report, indent=1) + "\n")
    draw(report, args.json.with_suffix(".png"))
    return 0


def draw(report: dict[str, Any], path: Path) -> None:
    """Seconds and memory by pairs, and tokens a second by length."""
    figure = new_figure((10, 3.4))
    seconds, memory, speed = figure.subplots(1, 3)
    given = [one["given"] for one in report["pairs"]]
    seconds.plot(
        given, [one["encode_seconds"] + one["pack_seconds"] for one in report["pairs"]], "o-", c=BLUE
    )
    memory.plot(given, [one["private_memory_above_mb"] for one in report["pairs"]], "o-", c=BLUE)
    speed.plot(
        [one["length"] for one in report["lengths"]],
        [one["tokens_per_second"] for one in report["lengths"]],
        "o-",
        c=BLUE,
    )
    for axes, title, label in (
        (seconds, "read, encode, pack: seconds", "pairs"),
        (memory, "peak memory without pages of files, MB", "pairs"),
        (speed, "tokens a second", "distinct tokens of a pair"),
    ):
        style(axes, title)
        axes.set_xlabel(label)
        axes.set_ylim(bottom=0)
    figure.savefig(path)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="HH dialogues, plain or .gz")
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--model", default="llama_12m", help="a file of conf/model")
    parser.add_argument("--pairs", type=int, nargs="+", default=[25_000, 50_000, 100_000, 200_000])
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 256, 512, 1024, 2048])
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.json or not (args.size or args.length or args.data):
        parser.error("--data and --json are needed")
    return args


if __name__ == "__main__":
    torch.set_num_threads(2)
    sys.exit(main())
