"""The members of a vote: which models they are, and with cross-fitting which of them scores which pair."""

import glob
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlhf_rm.errors import UserError
from rlhf_rm.files import fingerprint
from rlhf_rm.models.hub import local_copy
from rlhf_rm.models.load import find_model

# What may differ between the folds of one member: where it ran, and which fold it left out.
NOT_ITS_OWN = ("paths", "callbacks", "logger")


@dataclass(frozen=True)
class Model:
    """One trained reward model.

    Args:
        run: how it was named.
        directory: of its weights.
        weights: SHA-256 of them.
        fold: which fold it was trained without; None if it was trained on all.
    """

    run: str
    directory: Path
    weights: str
    fold: int | None


def find_members(patterns: Sequence[str], fold: int | None) -> list[list[Model]]:
    """The models of each member: one, or with cross-fitting one for each fold, in their order.

    Args:
        patterns: run directories, exports, globs of them, or names on the hub.
        fold: number of folds; None for members that were trained on everything.

    Raises:
        UserError: a pattern names nothing, there are fewer than two members, or folds are missing.
    """
    runs = [run for pattern in patterns for run in _expand(pattern)]
    doubled = sorted({run for run in runs if runs.count(run) > 1})
    if doubled:
        raise UserError(f"members names {doubled[0]} twice: each model has one vote.")
    models = [_model(run) for run in runs]
    members = [[model] for model in models] if fold is None else _folded(models, fold)
    if len(members) < 2:
        raise UserError(
            f"a vote takes at least 2 members, but members={','.join(patterns)} names {len(members)}: train "
            "more with other seeds, such as -m 'seed=range(10)'."
        )
    return members


def _expand(pattern: str) -> list[str]:
    if not glob.has_magic(pattern):
        return [pattern]
    # Path.glob takes no absolute pattern.
    found = [path for path in glob.glob(pattern) if Path(path).is_dir()]  # noqa: PTH207
    if not found:
        raise UserError(f"members={pattern} matches no directory: name runs, exports, or a glob of them.")
    return sorted(found, key=lambda path: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", path)])


def _model(run: str) -> Model:
    directory = local_copy(find_model(run))
    digest = hashlib.sha256()
    for file in sorted([*directory.glob("*.safetensors"), *directory.glob("*.bin")]):
        with file.open("rb") as opened:
            while block := opened.read(1 << 22):
                digest.update(block)
    return Model(run, directory, digest.hexdigest(), _settings(run).get("held_out_fold"))


def _settings(run: str) -> dict[str, Any]:
    """What a run's data module was told; nothing for a model that is no run of ours."""
    file = Path(run) / "config.yaml"
    if not file.is_file():
        return {}
    settings: Any = OmegaConf.to_container(OmegaConf.load(file).method.datamodule)
    return dict(settings)


def _folded(models: Sequence[Model], folds: int) -> list[list[Model]]:
    members: dict[str, dict[int, Model]] = defaultdict(dict)
    for model in models:
        settings = _settings(model.run)
        if model.fold is None or settings.get("folds") != folds:
            raise UserError(
                f"{model.run} was not trained with {folds} folds (folds={settings.get('folds', 1)}, "
                f"held_out_fold={model.fold}), as fold={folds} asks: train with "
                f"-m 'seed=range(10)' method.datamodule.folds={folds} 'method.datamodule.held_out_fold="
                f"range({folds})', or vote with fold=none."
            )
        members[_identity(Path(model.run))][model.fold] = model
    for found in members.values():
        missing = sorted(set(range(folds)) - found.keys())
        if missing:
            raise UserError(
                f"the member of {next(iter(found.values())).run} lacks the models without fold "
                f"{', '.join(map(str, missing))}: train them with the same settings and seed."
            )
    return [[found[number] for number in range(folds)] for found in members.values()]


def _identity(run: Path) -> str:
    """What the folds of one member have in common: everything but where they ran and the fold."""
    config: Any = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    config["method"]["datamodule"].pop("held_out_fold")
    kept = {name: value for name, value in config.items() if name not in NOT_ITS_OWN}
    return fingerprint(json.dumps(kept, sort_keys=True).replace(config["paths"]["run_dir"], ""))
