"""`rlhf-rm paper`: the whole paper in the synthetic world, and a page on what of it holds there."""

import os
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rlhf_rm import __version__
from rlhf_rm.commands.alone import alone_with_steps
from rlhf_rm.commands.output import check_output
from rlhf_rm.commands.paper_plan import Settings, paper_stages
from rlhf_rm.commands.steps import done_now, in_its_own_process, search_words, side_by_side, told
from rlhf_rm.errors import UserError
from rlhf_rm.files import read_json, write_json, write_text
from rlhf_rm.reproduction.claims import CLAIMS
from rlhf_rm.reproduction.numbers import world_numbers
from rlhf_rm.reproduction.page import Making, as_json, page
from rlhf_rm.reproduction.verdict import Judged, judge
from rlhf_rm.rounds.stage import MANIFEST, Stage

LOG = "output.log"  # what a step says
TOLD = ("noisy", "denoised", "over_optimised", "meta")  # settings of both sizes that the page names too


def run(cfg: DictConfig) -> list[Judged] | None:
    """Do what is not done yet, and write ``results.md`` and ``results.json``, also where a step failed.

    Raises:
        UserError: settings out of their range, another process at work here, or a step that failed.
    """
    check(cfg)
    root = Path(cfg.paths.run_dir).resolve()
    settings: Any = OmegaConf.to_container(cfg.reproduction, resolve=True)
    stages = paper_stages(settings, root)
    search = search_words()
    if cfg.dry_run:
        print(told(stages, root, search))
        return None
    check_output(Path(cfg.output))
    environment = {} if cfg.launch else {"OMP_NUM_THREADS": threads(cfg.jobs)}
    with alone_with_steps(root) as lock:

        def carry_out(stage: Stage) -> None:
            log = stage.directory(root) / LOG
            in_its_own_process(stage, root, cfg.launch, search, lock, log=log, environment=environment)

        failure = None
        try:
            side_by_side(stages, root, carry_out, cfg.jobs)
        except UserError as error:  # a night's other steps are worth a page
            failure = error
        done = done_now(stages, root)
        worlds = {
            str(seed): world_numbers(root / f"world_{seed}", steps_of(f"world_{seed}", done))
            for seed in settings["sized"]["worlds"]
        }
        judged = judge(CLAIMS, worlds)
        making = made(cfg, settings, done, root)
        write_json(root / "results.json", as_json(judged, making))
        write_text(Path(cfg.output), page(judged, making))
        if failure is not None:
            raise UserError(f"{failure} What the other steps measured is in {cfg.output}.") from failure
    print("\n".join(f"{one.verdict:<15} {one.claim.says}" for one in judged))
    print(f"\nresults  {cfg.output}, {root / 'results.json'}")
    return judged


def steps_of(world: str, stages: list[Stage]) -> list[str]:
    """The names of a world's steps."""
    return [Path(stage.name).name for stage in stages if Path(stage.name).parent.name == world]


def way_to_docs(output: Path) -> str | None:
    """From a page to the documentation; None where this is no checkout."""
    docs = Path(__file__).resolve().parents[2] / "docs"
    return os.path.relpath(docs, output.resolve().parent) if docs.is_dir() else None


def threads(jobs: int) -> str:
    """For each of the processes, of which else every one would take all cores for itself."""
    return os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))


def check(cfg: DictConfig) -> None:
    """Refuse what makes no plan.

    Raises:
        UserError: an unknown size, no worlds, or no jobs.
    """
    sizes = cfg.reproduction.sizes
    if cfg.size not in sizes:
        raise UserError(f"size={cfg.size} is unknown: use one of {', '.join(sizes)}.")
    worlds = list(sizes[cfg.size].worlds)
    if not worlds or len(set(worlds)) < len(worlds):
        raise UserError(f"worlds={worlds} must name at least one seed, and each once.")
    if not isinstance(cfg.jobs, int) or cfg.jobs < 1:
        raise UserError(f"jobs={cfg.jobs} must be a whole number of at least 1.")


def made(cfg: DictConfig, settings: Settings, stages: list[Stage], root: Path) -> Making:
    """How the numbers were made: the seconds are those that the steps, which are done, have written down."""
    seconds: dict[str, float] = {}
    for stage in stages:
        kind = re.sub(r"^slice_.*", "slices", Path(stage.name).name)
        seconds[kind] = seconds.get(kind, 0.0) + read_json(stage.directory(root) / MANIFEST)["seconds"]
    return Making(
        command=shlex.join(["rlhf-rm", "paper", *HydraConfig.get().overrides.task]),
        version=__version__,
        size=cfg.size,
        worlds=settings["sized"]["worlds"],
        seconds=seconds,
        settings=settings["sized"] | {name: settings[name] for name in TOLD},
        date=datetime.now(UTC).date().isoformat(),
        docs=way_to_docs(Path(cfg.output)),
    )
