"""`rlhf-rm iterate`: rounds of sample → reward model → PPO → judge, each step an artefact with a manifest."""

import gc
import importlib
from pathlib import Path

from hydra import compose
from omegaconf import DictConfig

from rlhf_rm.commands.alone import alone_with_steps
from rlhf_rm.commands.plan import Plan, from_files, make_plan
from rlhf_rm.commands.quiet import quiet
from rlhf_rm.commands.steps import (
    in_its_own_process,
    one_after_the_other,
    search_path,
    search_words,
    told,
)
from rlhf_rm.errors import UserError
from rlhf_rm.files import write_json
from rlhf_rm.overrides import override_of
from rlhf_rm.rounds.figures import rounds_figure
from rlhf_rm.rounds.stage import DONE, Stage
from rlhf_rm.rounds.table import Row, describe, round_row

TABLE, FIGURE = "rounds.json", "rounds.png"


def run(cfg: DictConfig) -> list[Row] | None:
    """Do what is not done yet; after each round write ``rounds.json`` and ``rounds.png``.

    Raises:
        UserError: settings that make no plan, another process at work here, or a step that failed.
    """
    quiet()
    root = Path(cfg.paths.run_dir).resolve()
    plan = make_plan(cfg, root)
    search = search_words()
    if search:
        plan = from_files(plan, root)
    if cfg.dry_run:
        print(told(plan.stages, root, search))
        return None
    rows: list[Row] = []
    with alone_with_steps(root) as lock:
        whole = all(stage.state(root) == DONE for stage in plan.stages)
        if not whole:
            for name in (TABLE, FIGURE):  # they are of other rounds, or of more than there are now
                (root / name).unlink(missing_ok=True)

        def carry_out(stage: Stage) -> None:
            if cfg.launch is None:
                in_this_process(stage, root)
            else:
                in_its_own_process(stage, root, cfg.launch, search, lock)

        def add_round(stage: Stage) -> None:
            parts = plan.parts[len(rows)] if len(rows) < len(plan.parts) else {}
            if stage == parts.get("judgement"):
                where = {part: one.directory(root) for part, one in parts.items()}
                rows.append(round_row(len(rows) + 1, where))
                if not whole or len(rows) == len(plan.parts):
                    write_table(root, plan, rows)

        one_after_the_other(plan.stages, root, carry_out, add_round)
    print(describe(rows))
    print(f"\nrounds  {root / TABLE}, {root / FIGURE}")
    return rows


def write_table(root: Path, plan: Plan, rows: list[Row]) -> None:
    """What the rounds that are done came to, as ``rounds.json`` and ``rounds.png``."""
    write_json(root / TABLE, {"method": plan.method, "planned": len(plan.parts), "rounds": rows})
    rounds_figure(rows).savefig(root / FIGURE)


def in_this_process(stage: Stage, root: Path) -> None:
    """Run a step here.

    Raises:
        UserError: it failed.
    """
    overrides = [*stage.overrides, override_of("paths.run_dir", str(stage.place(root)))]
    try:
        config = compose(stage.command, overrides=[*overrides, *search_path()])
        importlib.import_module(f"rlhf_rm.commands.{stage.command}").run(config)
    except UserError as error:
        here = " `rlhf-rm iterate` itself goes on without it." if "resume=auto" in str(error) else ""
        raise UserError(f"{stage.name}: {error}{here}") from error
    finally:
        gc.collect()  # before the next one loads its models
