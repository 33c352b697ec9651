"""`rlhf-rm iterate`: rounds of sample → reward model → PPO → judge, each step an artefact with a manifest."""

import gc
import importlib
from pathlib import Path

from hydra import compose
from omegaconf import DictConfig

from rlhf_rm.commands.plan import make_plan
from rlhf_rm.commands.quiet import quiet
from rlhf_rm.commands.steps import alone, in_its_own_process, one_after_the_other, search_words, told
from rlhf_rm.errors import UserError
from rlhf_rm.files import write_json
from rlhf_rm.overrides import override_of
from rlhf_rm.rounds.figures import rounds_figure
from rlhf_rm.rounds.stage import Stage
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
        print(told(plan.stages, root))
        return None
    search = search_words()
    with alone(root) as lock:

        def carry_out(stage: Stage) -> None:
            if cfg.launch is None:
                in_this_process(stage, root)
            else:
                in_its_own_process(stage, root, cfg.launch, search, lock)

        one_after_the_other(plan.stages, root, carry_out)
        rows = [round_row(number, directories) for number, directories in enumerate(plan.rounds(root), 1)]
        write_json(root / "rounds.json", {"method": plan.method, "rounds": rows})
        rounds_figure(rows).savefig(root / "rounds.png")
    print(describe(rows))
    print(f"\nrounds  {root / 'rounds.json'}, {root / 'rounds.png'}")
    return rows


def in_this_process(stage: Stage, root: Path) -> None:
    """Run a step here.

    Raises:
        UserError: it failed.
    """
    overrides = [*stage.overrides, override_of("paths.run_dir", str(stage.place(root)))]
    try:
        config = compose(stage.command, overrides=overrides)
        importlib.import_module(f"rlhf_rm.commands.{stage.command}").run(config)
    except UserError as error:
        raise UserError(f"{stage.name}: {error}") from error
    finally:
        gc.collect()  # before the next one loads its models
