"""Sides that take turns, so that a machine that slows down slows all of them.

Whole runs in turns suffice where a run is short; where one takes minutes, single steps take turns.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf_rm.plots.style import BLUE, new_figure, style

QUIET = 0.05  # share of the cores that other work may take
TURN = "RLHF_RM_BENCHMARK_TURN"  # of a side's process: the pipes by which it is told to take a step
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
            _tell(number, side, run)
    return runs


def take_steps_in_turns(
    script: str, job: Path, sides: list[str], rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """As :func:`take_turns`, but all sides are there at once, and each waits while another takes a step.

    What a side does before its first step, it does alone.
    """
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for number in range(rounds):
        there = {side: Waiting(script, side, job) for side in sides}
        going = list(sides)
        while going:
            going = [side for side in going if there[side].go()]
        for side in sides:
            runs[side].append(there[side].result())
            _tell(number, side, runs[side][-1])
    return runs


class Waiting:
    """A side in a process of its own, which takes a step when it is told to; it is ready for the first.

    Args:
        script, side, job: see :func:`take_turns`.
    """

    def __init__(self, script: str, side: str, job: Path) -> None:
        theirs_read, self._write = os.pipe()
        self._read, theirs_write = os.pipe()
        self._result = job.parent / f"{side}.result.json"
        command = [sys.executable, script, "--side", side, "--job", str(job), "--json", str(self._result)]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **OFFLINE, TURN: f"{theirs_read},{theirs_write}"},
            pass_fds=(theirs_read, theirs_write),
            stdout=sys.stderr,
        )
        os.close(theirs_read), os.close(theirs_write)
        os.read(self._read, 1)

    def go(self) -> bool:
        """Let it take a step, and wait for the end of it; False where it has ended instead."""
        try:
            os.write(self._write, b".")
        except BrokenPipeError:
            return False
        return bool(os.read(self._read, 1))

    def result(self) -> Any:
        """What it measured, at its end."""
        if code := self._process.wait():
            raise SystemExit(f"a side ended with code {code}; what it said is above.")
        os.close(self._read), os.close(self._write)
        return json.loads(self._result.read_text())


def wait_for_turn() -> None:
    """In the process of a side: say that the last step is over, and wait for the word to take the next."""
    if TURN in os.environ:
        read, write = map(int, os.environ[TURN].split(","))
        os.write(write, b".")
        os.read(read, 1)


def _tell(number: int, side: str, run: Mapping[str, Any]) -> None:
    print(
        f"round {number + 1} {side}: {run['pairs_per_second']:.2f} pairs/s, "
        f"{run['memory_above_mb']:.0f} MB, "
        f"{100 * run['cores_busy_with_other_work']:.0f} % of the cores busy with other work",
        flush=True,
    )


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
