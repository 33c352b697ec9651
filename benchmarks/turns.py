"""Sides that take turns, so that a machine that slows down slows all of them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf_rm.plots.style import BLUE, new_figure, style

QUIET = 0.05  # share of the cores that other work may take
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}


def take_turns(script: str, job: Path, sides: list[str], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Run every side ``rounds`` times, one after the other, each in a process of its own.

    Args:
        script: what runs one side, when told ``--side SIDE --job JOB --json RESULT``.
        job: what all runs have in common.
        sides: their names.
        rounds: how often each is run.
    """
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            load = os.getloadavg()[0]
            run = run_side(script, side, job)
            runs[side].append({"load_before": load, **run})
            print(
                f"round {number + 1} {side}: {run['pairs_per_second']:.2f} pairs/s, "
                f"{run['memory_above_mb']:.0f} MB, "
                f"{100 * run['cores_busy_with_other_work']:.0f} % of the cores busy with other work",
                flush=True,
            )
    return runs


def run_side(script: str, side: str, job: Path) -> Any:
    """Run one side in a process of its own; returns what it measured."""
    result = job.parent / "result.json"
    command = [sys.executable, script, "--side", side, "--job", str(job), "--json", str(result)]
    subprocess.run(command, check=True, env={**os.environ, **OFFLINE}, stdout=sys.stderr)
    return json.loads(result.read_text())


def bars(values: Mapping[str, float], title: str, path: Path) -> None:
    """Draw a number of each side."""
    figure = new_figure((6.4, 0.6 * len(values) + 1.2))
    axes = figure.subplots()
    drawn = axes.barh(list(values)[::-1], list(values.values())[::-1], color=BLUE)
    axes.bar_label(drawn, fmt="%.3g", padding=3)
    style(axes, title)
    figure.savefig(path)


def say_how_busy(others: float) -> None:
    """Print what share of the cores other work took at most, and a warning if that was much."""
    print(f"\nother work on the machine: at most {100 * others:.0f} % of its cores during any run")
    if others > QUIET:
        print("the machine was busy: these figures are not for quoting", file=sys.stderr)
