"""The command line: `rlhf-rm <command> [overrides]`; each command is a Hydra app of its own."""

import difflib
import importlib
import importlib.util
import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rlhf_rm.commands.alone import alone_in
from rlhf_rm.commands.sentence import is_of_a_dead_rank, sentence_of
from rlhf_rm.errors import InterruptedRunError
from rlhf_rm.ranks import ONE_PROCESS, is_first_rank, is_superfluous, rank_name

COMMANDS = {
    "train": "fit a method on a data set, then test and export it",
    "evaluate": "accuracy and calibration of a run, an export or a hub reward model",
    "vote": "how strong each preference is, by the vote of several reward models",
    "score": "rewards for a JSONL file of prompts and responses",
    "sample": "k responses to each prompt from a policy, or the best of them",
    "judge": "how often the responses of one file are better than those of another",
    "iterate": "rounds of sampling, reward modelling, PPO and judging, resumable",
    "export": "a run as a directory that plain transformers opens",
    "report": "one page on runs, votes, rounds, evaluations and judgements",
    "paper": "the whole paper in the synthetic world, and what of it holds there",
    "audit": "what is wrong with a preference set, before anyone pays for a training",
}
# These lock their directory themselves, so that the steps that they start hold the lock too.
LOCK_THEMSELVES = ("iterate", "paper")
# Set by `train` for the ranks that Lightning starts: the resolved configuration of their job.
RANK_CONFIG = "RLHF_RM_RANK_CONFIG"

INTERRUPTED = 130  # the exit code after Ctrl-C, by custom


class JobFailedError(Exception):
    """A job of a sweep has failed and has said so; the other jobs go on.

    Args:
        code: the exit code that it would have had alone.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def main() -> None:
    """Entry of the `rlhf-rm` script and of `python -m rlhf_rm.cli`."""
    if _is_started_rank():
        run("train")
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        raise SystemExit(0)
    command = arguments.pop(0)
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(COMMANDS)}."
        _stop(f"{command} is no command of rlhf-rm: {hint}")
    # A rank started by Lightning runs this line again, so it must keep the command.
    run(command, [sys.argv[0], *arguments])


def run(command: str, argv: list[str] | None = None) -> None:
    """Run one command as a Hydra app and exit.

    Args:
        command: one of :data:`COMMANDS`.
        argv: program and overrides; ``sys.argv`` if None.
    """
    argv = list(sys.argv if argv is None else argv)
    if {"-h", "--help"} & set(argv):
        from rlhf_rm.commands.help import help_of

        print(help_of(command))
        raise SystemExit(0)
    show_traceback = "traceback=true" in [argument.lower() for argument in argv]
    if is_superfluous():
        raise SystemExit(0)
    os.environ.pop(ONE_PROCESS, None)  # what this command starts may be for several
    try:
        if _is_started_rank():
            _run_rank(command)
        else:
            _run_hydra(command, argv)
    except Exception as error:
        if show_traceback:
            raise
        try:
            _stop_on(error)
        finally:
            _leave_the_dead(error)
    raise SystemExit(0)


def usage() -> str:
    """What `rlhf-rm --help` prints."""
    lines = [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "Reward modelling for RLHF that survives real preference data.",
            "",
            "usage: rlhf-rm COMMAND [OVERRIDES]     (rlhf-rm COMMAND --help shows its keys)",
            "",
            *lines,
        ]
    )


def conf_directory() -> str:
    """Where the YAML files are: in the installed package, or beside it in a checkout."""
    if importlib.util.find_spec("rlhf_rm.conf") is not None:
        return "pkg://rlhf_rm.conf"
    return str(Path(__file__).resolve().parent.parent / "conf")


def register_resolvers() -> None:
    """What the YAML files may ask: the name of the sweep's directory, or null; a path without its ``~``."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    def sweep_name() -> str | None:
        return Path(HydraConfig.get().sweep.dir).name if _is_sweep() else None

    OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)
    OmegaConf.register_new_resolver("expanduser", lambda path: str(Path(path).expanduser()), replace=True)


def _run_hydra(command: str, argv: list[str]) -> None:
    import hydra

    register_resolvers()

    # Hydra would print its own two lines and exit with 1; it raises when asked for full errors.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    original, sys.argv = sys.argv, argv
    try:
        app = hydra.main(version_base="1.3", config_path=conf_directory(), config_name=command)
        app(_task(command, original))()
    except JobFailedError as error:
        _finish_sweep(command)
        _stop("a job of the sweep failed; its message is above.", code=error.code)
    except KeyboardInterrupt:
        again = ""
        if (directory := _finish_sweep(command)) is not None:
            again = f"; the same command with hydra.sweep.dir={directory} resume=auto goes on with the sweep"
        _stop(f"interrupted{again}.", code=INTERRUPTED)
    finally:
        sys.argv = original
    _finish_sweep(command)


def _finish_sweep(command: str) -> Path | None:
    """The table of the sweep, if this was one of trainings; returns its directory."""
    from rlhf_rm.commands.sweep import SweepDirectory, finish_sweep

    directory, SweepDirectory.current = SweepDirectory.current, None
    if directory is None or command != "train":
        return None
    finish_sweep(directory)
    return directory


def _task(command: str, original_argv: list[str]) -> Callable[[Any], Any]:
    """The function that Hydra calls with a composed configuration, once for each job."""
    from rlhf_rm.commands.numbers import check_numbers
    from rlhf_rm.commands.sweep import SweepDirectory

    def task(cfg: Any) -> Any:
        directory = Path(str(cfg.paths.run_dir))
        composed, sys.argv = sys.argv, original_argv
        try:
            check_numbers(cfg)
            locks = is_first_rank() and command not in LOCK_THEMSELVES
            with alone_in(directory) if locks else nullcontext():
                return _command(command)(cfg)
        except Exception as error:
            if cfg.get("traceback"):
                raise
            if not sentence_of(error) and directory.is_dir():
                rank = rank_name().replace(" ", "_")
                log = directory / (f"error.rank_{rank}.log" if rank else "error.log")
                log.write_text(traceback.format_exc(), encoding="utf-8")
                print(f"The traceback is in {log}.", file=sys.stderr)
            try:
                _stop_on(error)
            except SystemExit as stop:
                if isinstance(error, InterruptedRunError) and SweepDirectory.current is not None:
                    # Not in a process of the job's own, which may be stopped alone; Hydra lets this through.
                    raise KeyboardInterrupt from None
                if _is_sweep():
                    raise JobFailedError(int(stop.code or 1)) from None
                _leave_the_dead(error)
                raise
        finally:
            sys.argv = composed

    return task


def _is_sweep() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _run_rank(command: str) -> None:
    """A rank that Lightning started: the job's configuration is given, no directory is made again."""
    from omegaconf import OmegaConf

    logging.basicConfig(level=logging.WARNING)
    _command(command)(OmegaConf.load(os.environ[RANK_CONFIG]))


def _is_started_rank() -> bool:
    return RANK_CONFIG in os.environ and os.environ.get("LOCAL_RANK", "0") != "0"


def _command(name: str) -> Callable[[Any], Any]:
    # Of fonts that it found, which it does while the command is imported.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.WARNING)
    function: Callable[[Any], Any] = importlib.import_module(f"rlhf_rm.commands.{name}").run
    return function


def _stop_on(error: BaseException) -> None:
    sentence = sentence_of(error)
    if sentence:
        _stop(sentence)
    _stop(f"{type(error).__name__}: {error} (traceback=true shows where)", code=1)


def _stop(message: str, code: int = 2) -> None:
    rank = rank_name()
    print(f"Error{f' on rank {rank}' if rank else ''}: {message}", file=sys.stderr)
    raise SystemExit(code)


def _leave_the_dead(error: BaseException | None) -> None:
    """End at once after another rank's death: at an orderly exit gloo's threads may wait for it for ever."""
    while error is not None:
        if is_of_a_dead_rank(error):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(2)
        error = error.__cause__ or error.__context__


if __name__ == "__main__":
    main()
