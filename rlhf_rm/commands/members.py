"""The members of a vote: which models they are, and with cross-fitting which of them scores which pair."""

import glob
import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlhf_rm.commands.stored import read_config
from rlhf_rm.errors import UserError, reading
from rlhf_rm.files import fingerprint, in_order, read_json
from rlhf_rm.models.hub import FILES, local_copy
from rlhf_rm.models.load import base_of, find_model
from rlhf_rm.models.reward import MEMBER

# What may differ between the folds of one member: where and how it ran, and which fold it left out.
NOT_ITS_OWN = ("paths", "callbacks", "logger", "resume", "traceback", "optimized_metric")
OF_THE_DATAMODULE = ("held_out_fold", "cache_dir", "workers")

CONFIGS = ("config.json", "adapter_config.json")  # of a model, and of an adapter
WEIGHTS = ("*.safetensors", "*.bin")
TOLD = tuple(pattern for pattern in FILES if pattern not in WEIGHTS)  # architecture, tokenizer, template


@dataclass(frozen=True)
class Model:
    """One trained reward model.

    Args:
        run: how it was named.
        directory: of its weights.
        weights: SHA-256 of them.
        content: a name for all that decides its scores: weights, architecture, tokenizer and template.
        fold: which fold it was trained without; None if it was trained on all.
        size: how many members it holds: 1, or the heads of an ensemble.
    """

    run: str
    directory: Path
    weights: str
    content: str
    fold: int | None
    size: int


def find_members(patterns: Sequence[str], fold: int | None) -> list[list[Model]]:
    """The models of each member: one, or with cross-fitting one for each fold, in their order.

    Args:
        patterns: run directories, exports, globs of them, or names on the hub.
        fold: number of folds; None for members that were trained on everything.

    Raises:
        UserError: a pattern names nothing, there are fewer than two members, or folds are missing.
    """
    bases: dict[Path, str] = {}
    models = [_model(run, bases) for pattern in patterns for run in _expand(pattern)]
    _refuse_doubled(models)
    members = [[model] for model in models] if fold is None else _folded(models, fold)
    count = sum(models[0].size for models in members)
    if count < 2:
        raise UserError(
            f"a vote takes at least 2 members, but members={','.join(patterns)} names {count}: train "
            "more with other seeds, such as -m 'seed=range(10)'."
        )
    return members


def _expand(pattern: str) -> list[str]:
    if not glob.has_magic(pattern) or Path(pattern).exists():
        return _members_of(pattern)
    # Path.glob takes no absolute pattern.
    found = [path for path in glob.glob(pattern) if Path(path).is_dir()]  # noqa: PTH207
    if not found:
        raise UserError(f"members={pattern} matches no directory: name runs, exports, or a glob of them.")
    return [member for path in sorted(found, key=in_order) for member in _members_of(path)]


def _members_of(run: str) -> list[str]:
    """The models of an ensemble of whole models, a run or an export; any other by itself."""
    found = [path for where in (Path(run) / "export", Path(run)) for path in where.glob(f"{MEMBER}*")]
    inside = sorted(path for path in found if any((path / name).is_file() for name in CONFIGS))
    return [str(path) for path in inside] or [run]


def _model(run: str, bases: dict[Path, str]) -> Model:
    """One of the members; of the base models of adapters, which may be of many, the digests are kept."""
    directory = local_copy(find_model(run))
    if not any(next(directory.glob(pattern), None) for pattern in WEIGHTS):
        raise UserError(f"{run} has no weights: there is no {' or '.join(WEIGHTS)} in {directory}.")
    weights, rest = _digest(directory, *WEIGHTS), [_digest(directory, *TOLD)]
    base = Path(base_of(str(directory)))
    if base != directory:
        if base not in bases:
            bases[base] = _digest(base, *WEIGHTS, *TOLD)
        rest.append(bases[base])
    config = directory / "config.json"
    with reading(config, f"leave {run} out, or make it anew"):
        labels = read_json(config).get("id2label") if config.is_file() else None
        names = list((labels or {}).values())
    size = len(names) if names and all(str(name).startswith(MEMBER) for name in names) else 1
    content = fingerprint(weights, rest)
    return Model(run, directory, weights, content, _settings(run).get("held_out_fold"), size)


def _digest(directory: Path, *patterns: str) -> str:
    """SHA-256 of the files of these names, one after another."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in patterns for file in directory.glob(pattern)}):
        with file.open("rb") as opened:
            while block := opened.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _refuse_doubled(models: Sequence[Model]) -> None:
    """Refuse a model that comes again, under whatever name."""
    seen: dict[str, Model] = {}
    for model in models:
        first = seen.setdefault(model.weights, model)
        if first is not model:
            again = "" if first.run == model.run else f", as {model.run} too"
            raise UserError(f"members names {first.run} twice{again}: each model has one vote.")


def run_of(model: Model) -> str:
    """The run that a model is of, or the model itself."""
    file = _config_of(model.run)
    return model.run if file is None else str(file.parent)


def _settings(run: str) -> dict[str, Any]:
    """What a run's data module was told; nothing for a model that is no run of ours."""
    file = _config_of(run)
    if file is None:
        return {}
    with reading(file, f"leave {run} out, or train it anew"):
        settings: Any = OmegaConf.to_container(read_config(file).method.datamodule)
        return dict(settings)


def _config_of(run: str) -> Path | None:
    """The configuration of a run, also of one that a member lies in."""
    path = Path(run)
    inside = path.name.startswith(MEMBER) and path.parent.name == "export"
    file = (path.parents[1] if inside else path) / "config.yaml"
    return file if file.is_file() else None


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
        member = members[_identity(model.run)]
        if model.fold in member:
            raise UserError(
                f"{member[model.fold].run} and {model.run} are the same member without fold {model.fold}: "
                "name one of them."
            )
        member[model.fold] = model
    for found in members.values():
        missing = sorted(set(range(folds)) - found.keys())
        if missing:
            raise UserError(
                f"the member of {next(iter(found.values())).run} lacks the models without fold "
                f"{', '.join(map(str, missing))}: train them with the same settings and seed."
            )
    return [[found[number] for number in range(folds)] for found in members.values()]


def _identity(run: str) -> str:
    """What the folds of one member have in common: everything but where and how they ran, and the fold."""
    file = _config_of(run)
    assert file is not None
    with reading(file, f"leave {run} out, or train it anew"):
        config: Any = OmegaConf.to_container(read_config(file))
        for name in OF_THE_DATAMODULE:
            config["method"]["datamodule"].pop(name, None)
        config["loader"].pop("workers", None)
        kept = {name: value for name, value in config.items() if name not in NOT_ITS_OWN}
        # As it stands within other texts, whatever JSON escapes in it.
        run_dir = json.dumps(config["paths"]["run_dir"])[1:-1]
        name = Path(run).name if Path(run).name.startswith(MEMBER) else ""
        return fingerprint(name, json.dumps(kept, sort_keys=True).replace(run_dir, ""))
