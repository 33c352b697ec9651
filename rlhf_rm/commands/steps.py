"""Steps of a plan, one after the other or side by side: the done are skipped, the interrupted go on."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from rlhf_rm.errors import UserError
from rlhf_rm.overrides import override_of, typed_path
from rlhf_rm.ranks import ONE_PROCESS
from rlhf_rm.rounds.stage import DONE, INTERRUPTED, Stage

CarryOut = Callable[[Stage], None]


def told(stages: Sequence[Stage], root: Path, search: Sequence[str] = ()) -> str:
    """The plan as lines: what is done, what is not, and the command of each step.

    Args:
        stages: in their order.
        root: where everything lies.
        search: see :func:`search_words`.
    """
    lines = []
    fresh = False  # whether something before it will be done anew, so that nobody can know yet
    for number, stage in enumerate(stages, 1):
        state = stage.state(root)
        if state != DONE:
            fresh = True
        elif fresh:
            state = "done, unless what comes before changes"
        place = override_of("hydra.run.dir", str(stage.place(root)))
        command = shlex.join(["rlhf-rm", stage.command, *stage.overrides, place, *search])
        lines += [f"[{number}/{len(stages)}] {stage.name}: {state}", f"    {command}"]
    return "\n".join(lines)


def one_after_the_other(
    stages: Sequence[Stage], root: Path, carry_out: CarryOut, after: CarryOut = lambda stage: None
) -> None:
    """Do what is not done yet, in this thread.

    Args:
        stages: in their order.
        root: where everything lies.
        carry_out: does one.
        after: called when one is done, also if it was before.

    Raises:
        UserError: a step failed.
    """
    for number, stage in enumerate(stages, 1):
        _do(stage, f"[{number}/{len(stages)}]", root, carry_out)
        after(stage)


def side_by_side(stages: Sequence[Stage], root: Path, carry_out: CarryOut, jobs: int) -> None:
    """Do what is not done yet, at most ``jobs`` steps at once, each after those whose output it reads.

    Raises:
        UserError: a step failed; all that do not read what it would have left are done.
    """
    after = {stage: _read_by(stage, stages, root) for stage in stages}
    left = {stage: f"[{number}/{len(stages)}]" for number, stage in enumerate(stages, 1)}
    running: dict[Future[None], Stage] = {}
    ended: set[Stage] = set()
    failures: list[UserError] = []
    with ThreadPoolExecutor(jobs) as pool:
        while (ready := [stage for stage in left if after[stage] <= ended]) or running:
            for stage in ready[: jobs - len(running)]:
                running[pool.submit(_do, stage, left.pop(stage), root, carry_out)] = stage
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                stage = running.pop(future)
                try:
                    future.result()
                    ended.add(stage)
                except UserError as failure:
                    print(failure, flush=True)
                    failures.append(failure)
    if failures:
        raise failures[0]


def done_now(stages: Sequence[Stage], root: Path) -> list[Stage]:
    """The steps that are done, and all that they read from too: what others left is of settings before."""
    done: list[Stage] = []
    for stage in stages:
        if stage.state(root) == DONE and _read_by(stage, stages, root) <= set(done):
            done.append(stage)
    return done


def _read_by(stage: Stage, stages: Sequence[Stage], root: Path) -> set[Stage]:
    """The steps whose output a step reads."""
    return {
        other for other in stages if any(path.is_relative_to(other.directory(root)) for path in stage.reads)
    }


def _do(stage: Stage, label: str, root: Path, carry_out: CarryOut) -> None:
    """One step, unless it is done."""
    state = stage.state(root)
    if state == DONE:
        print(f"{label} {stage.name}: done before", flush=True)
        return
    moved = stage.begin(root)
    if moved is not None:
        print(f"what {stage.name} held is outdated, and lies in {moved} now")
    going_on = ", going on" if state == INTERRUPTED else ""
    print(f"{label} {stage.name}{going_on}", flush=True)
    began = time.perf_counter()
    carry_out(stage)
    stage.finish(root, time.perf_counter() - began)


def in_its_own_process(
    stage: Stage,
    root: Path,
    launch: str | None,
    search: Sequence[str],
    lock: int,
    *,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a step as a command of its own.

    Args:
        stage: which.
        root: where everything lies.
        launch: words before its command.
        search: see :func:`search_words`.
        lock: of the root; the child holds it too, so that after a kill of this process nobody else begins.
        log: where what it says goes; None lets it speak here.
        environment: more variables for it.

    Raises:
        UserError: it failed.
    """
    place = str(stage.place(root))
    words = [*shlex.split(launch or ""), sys.executable, "-m", "rlhf_rm.cli", stage.command, *stage.overrides]
    words += [override_of("paths.run_dir", place), override_of("hydra.run.dir", place), *search]
    variables = os.environ | dict(environment or {})
    variables.pop(ONE_PROCESS, None)
    if stage.command != "train":
        # SLURM would otherwise, where it is set up so, end the one that works some time after the others.
        variables |= {ONE_PROCESS: "1", "SLURM_WAIT": "0"}
    if log is None:
        code = subprocess.run(words, check=False, pass_fds=[lock], env=variables).returncode
        said = "what it said is above"
    else:
        with log.open("ab") as file:
            ended = subprocess.run(
                words, check=False, pass_fds=[lock], env=variables, stdout=file, stderr=subprocess.STDOUT
            )
        code, said = ended.returncode, f"what it said is in {log}"
    if code != 0:
        raise UserError(
            f"{stage.name} failed with exit code {code}; {said}. The same command with "
            f"{typed_path('hydra.run.dir', root)} goes on there."
        )


def search_path() -> list[str]:
    """The overrides that say where further configuration files lie, which composing here needs again."""
    return [one for one in HydraConfig.get().overrides.hydra if one.startswith("hydra.searchpath=")]


def search_words() -> tuple[str, ...]:
    """What a command of its own needs to find the same configuration files; nothing for the package's own."""
    words = search_path()
    for source in HydraConfig.get().runtime.config_sources:
        words += ["--config-dir", source.path] if source.provider == "command-line" else []
    return tuple(words)
