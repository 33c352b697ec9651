"""`rlhf-rm iterate`: rounds of sample → reward model → PPO → judge, each step an artefact with a manifest."""

import fcntl
import gc
import importlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose
from omegaconf import DictConfig

from rlhf_rm.commands.forward import override_of
from rlhf_rm.commands.plan import Plan, make_plan
from rlhf_rm.commands.quiet import quiet
from rlhf_rm.errors import UserError
from rlhf_rm.files import write_json
from rlhf_rm.rounds.figures import rounds_figure
from rlhf_rm.rounds.stage import DONE, INTERRUPTED, Stage
from rlhf_rm.rounds.table import Row, describe, round_row


def run(cfg: DictConfig) -> list[Row] | None:
    """Do what is not done yet, and write ``rounds.json`` and ``rounds.png``.

    Raises:
        UserError: settings that make no plan, another process at work here, or a step that failed.
    """
    quiet()
    root = Path(cfg.paths.run_dir).resolve()
    plan = make_plan(cfg, root)
    if cfg.dry_run:
        print(told(plan, root))
        return None
    with alone(root) as lock:
        for number, stage in enumerate(plan.stages, 1):
            state = stage.state(root)
            if state == DONE:
                print(f"[{number}/{len(plan.stages)}] {stage.name}: done before", flush=True)
                continue
            moved = stage.begin(root)
            if moved is not None:
                print(f"what {stage.name} held is outdated, and lies in {moved} now")
            going_on = ", going on" if state == INTERRUPTED else ""
            print(f"[{number}/{len(plan.stages)}] {stage.name}{going_on}", flush=True)
            began = time.perf_counter()
            carry_out(stage, root, cfg.launch, plan.search, lock)
            stage.finish(root, time.perf_counter() - began)
        rows = [round_row(number, directories) for number, directories in enumerate(plan.rounds(root), 1)]
        write_json(root / "rounds.json", {"method": plan.method, "rounds": rows})
        rounds_figure(rows).savefig(root / "rounds.png")
    print(describe(rows))
    print(f"\nrounds  {root / 'rounds.json'}, {root / 'rounds.png'}")
    return rows


def told(plan: Plan, root: Path) -> str:
    """The plan as lines: what is done, what is not, and the command of each step."""
    lines = []
    fresh = False  # whether something before it will be done anew, so that nobody can know yet
    for number, stage in enumerate(plan.stages, 1):
        state = stage.state(root)
        if state != DONE:
            fresh = True
        elif fresh:
            state = "done, unless what comes before changes"
        place = override_of("hydra.run.dir", str(stage.directory(root)))
        command = shlex.join(["rlhf-rm", stage.command, *stage.overrides, place])
        lines += [f"[{number}/{len(plan.stages)}] {stage.name}: {state}", f"    {command}"]
    return "\n".join(lines)


def carry_out(stage: Stage, root: Path, launch: str | None, search: Sequence[str], lock: int) -> None:
    """Run a step, here or by the command that launches it.

    Raises:
        UserError: it failed.
    """
    directory = stage.directory(root)
    overrides = [*stage.overrides, override_of("paths.run_dir", str(directory))]
    if launch is None:
        try:
            config = compose(stage.command, overrides=overrides)
            importlib.import_module(f"rlhf_rm.commands.{stage.command}").run(config)
        except UserError as error:
            raise UserError(f"{stage.name}: {error}") from error
        finally:
            gc.collect()  # before the next one loads its models
        return
    command = [*shlex.split(launch), sys.executable, "-m", "rlhf_rm.cli", stage.command, *overrides, *search]
    # The child holds the lock too: if this process is killed, the next waits until the child has ended.
    done = subprocess.run(
        [*command, override_of("hydra.run.dir", str(directory))], check=False, pass_fds=[lock]
    )
    if done.returncode != 0:
        raise UserError(
            f"{stage.name} failed with exit code {done.returncode}; what it said is above. The same command "
            f"with hydra.run.dir={root} goes on there."
        )


@contextmanager
def alone(root: Path) -> Iterator[int]:
    """Nobody else works in this directory meanwhile; gives the descriptor of the lock.

    Raises:
        UserError: somebody does.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is at work in {root}: wait for it, or choose another directory with "
                "hydra.run.dir=DIR."
            ) from None
        yield file.fileno()
