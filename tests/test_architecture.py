"""The arrows between the packages: who may import whom."""

import ast
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rlhf_rm"
# cli → commands → methods → {losses, metrics, strategies → models → data} → functional;
# callbacks, audit, voting and rounds beside methods; report over what it reports on;
# reproduction over report.
MAY_IMPORT = {
    "functional": set(),
    "data": {"functional"},
    "losses": {"functional"},
    "denoise": {"functional"},
    "metrics": {"functional"},
    "models": {"data", "functional"},
    "strategies": {"models"},
    "methods": {"strategies", "losses", "denoise", "metrics", "models", "data", "functional"},
    "callbacks": {"strategies", "metrics", "data", "functional"},
    "audit": {"metrics", "data", "functional"},
    "voting": {"metrics", "data", "functional"},
    "plots": set(),
    "report": {"rounds", "voting", "metrics", "data"},
    "reproduction": {"report", "rounds", "judging", "metrics", "data"},
    "rounds": {"judging"},
    "judging": {"methods", "metrics", "models", "data"},
    "commands": {
        "cli",
        "reproduction",
        "report",
        "rounds",
        "judging",
        "voting",
        "audit",
        "callbacks",
        "strategies",
        "methods",
        "losses",
        "denoise",
        "metrics",
        "models",
        "data",
        "functional",
    },
    "cli": {"commands"},
}
EVERYONE_MAY_IMPORT = {"errors", "files", "html", "overrides", "plots", "ranks"}
OUTSIDE = {
    "functional": {"lightning", "transformers"},
    "data": {"peft"},
    "losses": {"lightning", "transformers"},
}
COMPOSED_HERE_ONLY = {"cli", "commands"}
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """The package (or the module) of a file below rlhf_rm."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


def wrong_imports(path: Path) -> list[str]:
    """What a file imports against the arrows."""
    part = part_of(path)
    if part not in MAY_IMPORT:
        # errors, files and the like stand below everything.
        return sorted(name for name in imports(path) if name.startswith("rlhf_rm.") and part != "__init__")
    allowed = MAY_IMPORT[part] | EVERYONE_MAY_IMPORT | {part}
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("rlhf_rm.")} - {"__version__"}
    theirs = {name.split(".")[0] for name in imports(path)}
    wrong = ours - allowed | theirs & OUTSIDE.get(part, set())
    if part not in COMPOSED_HERE_ONLY:
        wrong |= theirs & {"hydra", "omegaconf"}
    return sorted(wrong)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_one_way_and_only_commands_know_hydra(path):
    assert wrong_imports(path) == []
    if part_of(path) in COMPOSED_HERE_ONLY:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            taken = {
                argument.arg for argument in (*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs)
            }
            assert "cfg" not in taken, f"line {node.lineno} takes a whole configuration"


def test_a_wrong_import_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    for text in (
        "from rlhf_rm.models.reward import RewardModel",
        "import rlhf_rm.methods.step",
        "import omegaconf",
    ):
        path = tmp_path / "data" / "new.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"def late():\n    {text}\n")
        assert len(wrong_imports(path)) == 1
    (tmp_path / "errors.py").write_text("from rlhf_rm.data import types\n")
    assert wrong_imports(tmp_path / "errors.py")
    path.write_text("from rlhf_rm.errors import UserError\nimport lightning\n")
    assert wrong_imports(path) == []


def test_a_wheel_has_every_package():
    told = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = [".".join(init.parent.relative_to(PACKAGE.parent).parts) for init in PACKAGE.rglob("__init__.py")]
    assert sorted(told) == sorted([*found, "rlhf_rm.conf"])
