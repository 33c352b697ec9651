"""Everything that is to be known of one GPU, in one go: kernels against the reference, and speed by model.

    python benchmarks/gpu.py --data hh.jsonl.gz --out DIR

For each model of random weights: pairs a second against TRL, against packing without sharing, and with
FlexAttention, in bfloat16 with AdamW and without gradient checkpointing. Leaves DIR/kernels.json, a JSON
and a plot for each model, and DIR/gpu.md, a table of all. --device cpu goes through it without kernels.
"""

import argparse
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from measure import machine
from transformers import AutoConfig, AutoModelForSequenceClassification

from rlhf_rm.data.packing import Packing, Tree
from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.base import Attention
from rlhf_rm.models.attention.flash import FlashAttention
from rlhf_rm.models.attention.flex import FlexAttention
from rlhf_rm.models.attention.kernels import check_alignment, installed_kernels
from rlhf_rm.models.attention.sdpa import SDPAAttention
from rlhf_rm.models.reward import RewardModel

SHAPES = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
    },
    "7b": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
}
TOLERANCE = 0.05  # of losses in bfloat16


def main() -> int:
    """Entry of the script; returns the exit status."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    found = {"machine": machine(), **(kernels() if args.device == "cuda" else {})}
    (args.out / "kernels.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1), flush=True)
    failed = 0
    for name in args.models:
        failed += subprocess.run(command(args, name), check=False).returncode
    lines = list(table(args))
    (args.out / "gpu.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 1 if failed else 0


def kernels() -> dict[str, Any]:
    """Each kernel against attention written out, and a model's rewards and gradients by each attention."""
    told: dict[str, Any] = {"kernels": {}}
    for kernel in installed_kernels():
        try:
            check_alignment(kernel, torch.device("cuda"), torch.bfloat16)
            told["kernels"][kernel.name] = "agrees"
        except UserError as error:
            told["kernels"][kernel.name] = str(error)
    for window in (None, 64):
        reference = rewards_and_gradient(SDPAAttention(), window, torch.float32)
        ways: dict[str, tuple[Attention, torch.dtype]] = {
            "sdpa, bfloat16": (SDPAAttention(), torch.bfloat16),
            "flash, bfloat16": (FlashAttention(), torch.bfloat16),
            "flex, bfloat16": (FlexAttention(), torch.bfloat16),
            "flex, float32": (FlexAttention(), torch.float32),
        }
        told[f"against sdpa in float32, window {window}"] = {
            name: differences(reference, rewards_and_gradient(way, window, dtype))
            for name, (way, dtype) in ways.items()
        }
    return told


def rewards_and_gradient(
    attention: Attention, window: int | None, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards of trees of 2 to 5 responses, and the gradient of their sum, of a small model on the GPU."""
    torch.manual_seed(0)
    kind = "llama" if window is None else "mistral"
    settings = SHAPES["tiny"] | {"hidden_size": 256, "vocab_size": 500}
    if window is not None:
        settings |= {"sliding_window": window}
    config = AutoConfig.for_model(kind, **settings, num_labels=1, pad_token_id=0)
    network = AutoModelForSequenceClassification.from_config(config).to("cuda", dtype)
    model = RewardModel(network, attention)
    made = torch.Generator().manual_seed(1)
    trees = []
    for k in (2, 5, 2, 3):
        prefix = torch.randint(1, 500, (150,), generator=made)
        branches = [
            torch.cat([prefix, torch.randint(1, 500, (20 + 30 * b,), generator=made)]) for b in range(k)
        ]
        trees.append(Tree(tuple(one.int().numpy() for one in branches), 150, (150,) * k))
    rewards = [
        model(rows.to("cuda")) for rows, _ in Packing("shared", 1024, 2048, 0, row_multiple=1).pack(trees)
    ]
    reward_N = torch.cat(rewards)
    reward_N.sum().backward()
    gradient = torch.cat([p.grad.flatten().float() for p in model.parameters() if p.grad is not None])
    return reward_N.detach().float(), gradient


def differences(
    wanted: tuple[torch.Tensor, torch.Tensor], got: tuple[torch.Tensor, torch.Tensor]
) -> dict[str, float]:
    """The largest difference of rewards over their deviation, and the cosine of the gradients."""
    return {
        "rewards": float((got[0] - wanted[0]).abs().max() / wanted[0].std()),
        "cosine of gradients": float(torch.nn.functional.cosine_similarity(got[1], wanted[1], dim=0)),
    }


def command(args: argparse.Namespace, name: str) -> list[str]:
    """What compares the sides for one model."""
    shape = [f"model.architecture.{key}={value}" for key, value in SHAPES[name].items()]
    peers = ["packed", *(["flex"] if args.device == "cuda" else [])]
    if find_spec("trl") is None:
        print("trl is not installed, and left out")
    else:
        peers.insert(0, "trl")
    script = str(Path(__file__).with_name("reward_throughput.py"))
    sizes = {"pairs-per-step": args.pairs_per_step, "steps": args.steps, "warmup": 3, "rounds": args.rounds}
    told = [word for key, value in sizes.items() for word in (f"--{key}", str(value))]
    told += ["--device", args.device, "--tolerance", str(TOLERANCE), "--json", str(args.out / f"{name}.json")]
    overrides = [
        "model.dtype=bfloat16",
        f"loader.row_tokens={args.row_tokens}",
        f"loader.micro_tokens={args.row_tokens}",
        *shape,
    ]
    return [sys.executable, script, "--data", str(args.data), "--peer", *peers, *told, "--set", *overrides]


def table(args: argparse.Namespace) -> list[str]:
    """The figures of all models, as Markdown."""
    lines = [
        "| model | side | pairs/s | useful tokens/s | matrix peak | memory, MB | ratio | losses apart |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in args.models:
        path = args.out / f"{name}.json"
        if not path.is_file():
            lines.append(f"| {name} | failed | | | | | | |")
            continue
        report = json.loads(path.read_text())
        for side, figures in report["sides"].items():
            peer = report["peers"].get(side, {"ratio_pairs_per_second": 1.0, "largest_difference": 0.0})
            lines.append(
                f"| {name} | {side} | {figures['pairs_per_second']:.2f} "
                f"| {figures['useful_tokens_per_second']:,.0f} | {figures['share_of_matrix_peak']:.1%} "
                f"| {figures['memory_above_mb']:,.0f} | {peer['ratio_pairs_per_second']:.2f} "
                f"| {peer['largest_difference']:.1e} |"
            )
    return lines


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="HH dialogues, plain or .gz")
    parser.add_argument("--out", type=Path, required=True, help="a directory for what is found")
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=["1b", "7b"])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--pairs-per-step", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8, help="of each run, three of warm-up included")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each side")
    parser.add_argument("--row-tokens", type=int, default=8192, help="tokens of a row and of a forward pass")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
