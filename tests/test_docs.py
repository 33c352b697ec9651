"""What the documentation tells people to type works, and its links lead somewhere."""

import json
import math
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from rlhf_rm import cli
from rlhf_rm.commands import checks
from rlhf_rm.commands.compose import compose

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
EXAMPLE = [ROOT / "README.md", ROOT / "docs" / "extending.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OUR_FILE = re.compile(r"^`(my_rewards/[\w/]+\.\w+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
KEY = re.compile(
    r"`((?:data|model|loader|trainer|optimizer|scheduler|method|base|callbacks|evaluate|contrastive|meta|sampling|sampled|judged|judge)\.[\w.]+)(?:=[^`]*)?`"
)


LAUNCHED = re.compile(r"^(?:srun |torchrun [^\n]*?)(?:python )?(train\.py [^&]*)")
INLINE = re.compile(r"`((?:python train\.py|rlhf-rm [a-z]+) (?!--help)[^`]+)`")


def commands(text: str) -> Iterator[str]:
    """What runs a command of this project: lines of fenced blocks, also of launchers, and inline code."""
    for _, block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith(("python train.py", "rlhf-rm ")):
                yield line
            elif launched := LAUNCHED.match(line):
                yield f"python {launched[1]}"
    yield from INLINE.findall(FENCE.sub("", text))


ALL_COMMANDS = [(str(page.relative_to(ROOT)), line) for page in PAGES for line in commands(page.read_text())]


@pytest.fixture(scope="session")
def example(tmp_path_factory) -> Path:
    """The package of the README and docs/extending.md, written out as it stands there."""
    directory = tmp_path_factory.mktemp("example")
    for name, content in OUR_FILE.findall("\n".join(page.read_text() for page in EXAMPLE)):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for folder in ("my_rewards", "my_rewards/conf"):
        (directory / folder / "__init__.py").touch()
    return directory


def composed(name: str, overrides: list[str]):
    """The configuration of a command; its run directory is Hydra's to say, once it runs."""
    return compose(name, *overrides, run_dir="DIR")


def test_the_readme_has_the_two_commands_that_others_rely_on():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert lines.count("pip install -c constraints.txt -e . && python train.py") == 1
    assert lines.count("pip install -c constraints.txt -e '.[dev]' && pytest") == 1


def test_all_commands_of_the_command_line_are_documented():
    named = {shlex.split(line, comments=True)[1] for _, line in ALL_COMMANDS if line.startswith("rlhf-rm")}
    assert named >= set(cli.COMMANDS)


@pytest.mark.parametrize(("page", "line"), ALL_COMMANDS, ids=range(len(ALL_COMMANDS)))
def test_commands_compose_and_lack_nothing(example, monkeypatch, page, line):
    monkeypatch.syspath_prepend(str(example))
    words = shlex.split(line, comments=True)
    name, words = ("train", words[2:]) if words[0] == "python" else (words[1], words[2:])
    if "--config-dir" in words:
        at = words.index("--config-dir")
        words[at : at + 2] = [f"hydra.searchpath=[file://{example / words[at + 1]}]"]
    sweep = "-m" in words
    overrides = [word for word in words if word != "-m"]
    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = any(one.is_sweep_override() or one.key_or_group == "hparams_search" for one in parsed)
    assert sweep == swept, "-m, and something to sweep over"
    monkeypatch.setattr(checks, "find_spec", lambda package: package)  # as if DeepSpeed were installed
    for job in jobs(parsed):
        cfg = composed(name, job)
        assert OmegaConf.missing_keys(cfg) == set()
        if name == "train":
            checks.check_config(cfg)


def jobs(parsed: list[Override]) -> list[list[str]]:
    """The overrides of as many jobs of a sweep as it takes for each value to come once."""
    values = [
        [f"{one.key_or_group}={value}" for value in one.sweep_string_iterator()]
        if one.is_sweep_override()
        else [one.input_line]
        for one in parsed
    ]
    return [[some[i % len(some)] for some in values] for i in range(max(map(len, values), default=1))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text())
    for link in LINK.findall(text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in anchors(target.read_text()), f"{link}: no such heading"


def test_the_models_of_the_readme_are_those_of_conf():
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| (\S+) \| ([\d,]+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    described = {name: (float(rate), int(length.replace(",", ""))) for name, rate, length in rows}
    models = {path.stem: OmegaConf.load(path) for path in (ROOT / "conf" / "model").glob("*.yaml")}
    assert described == {name: (model.learning_rate, model.max_length) for name, model in models.items()}


def test_the_numbers_of_deciles_are_named_with_the_settings_of_their_command():
    comment = (ROOT / "conf/experiment/deciles.yaml").read_text().replace("\n# ", " ")
    page = (ROOT / "docs/methods/denoised.md").read_text()
    (words,) = [shlex.split(line) for line in commands(page) if "denoise=slice" in line]
    for override, said in (
        ("data.train_pairs=12000", "12,000 pairs"),
        ("trainer.max_epochs=3", "three epochs"),
        ("loader.batch_size=16", "steps of 16 pairs"),
        ("optimizer.lr=5e-4", "at 5e-4"),
        ("base.settings.steps=2000", "base.settings.steps=2000"),
        ("data.seed=11", "data.seed and seed 11"),
    ):
        assert override in words and said in comment


def anchors(text: str) -> set[str]:
    """Names of the headings of a page, as the usual renderers make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_keys_that_pages_name_exist():
    configurations = [
        composed("train", ["data=synthetic"]),
        composed("train", ["data=hh"]),
        composed("train", ["data=hub", "callbacks=early_stopping"]),
        composed("train", ["data=flipped"]),
        composed("train", ["strategy=deepspeed_zero3"]),
        composed("train", ["method=contrastive", "contrastive=swav_pairs"]),
        composed("evaluate", []),
        composed("sample", []),
        composed("iterate", []),
        *(composed("judge", [f"judge={name}"]) for name in ("gold", "reward", "endpoint")),
    ]
    named = {(page.name, key) for page in PAGES for key in KEY.findall(page.read_text())}
    named = {(page, key) for page, key in named if not key.endswith(".py")}
    assert len(named) > 20
    unknown = [(page, key) for page, key in named if not any(has(cfg, key) for cfg in configurations)]
    assert unknown == []


def has(cfg, key: str) -> bool:
    """Whether a configuration has a key, null or not."""
    *parents, last = key.split(".")
    node = cfg
    for name in parents:
        node = node.get(name) if OmegaConf.is_dict(node) else None
    return OmegaConf.is_dict(node) and last in set(node)


def test_the_package_of_the_readme_trains(rlhf_rm, small, example, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(example))
    votes = [
        {"question": f"Is {i} even?", "a": "Yes, it is.", "b": "No, it is odd.", "winner": "ab"[i % 2]}
        for i in range(80)
    ]
    (tmp_path / "votes.jsonl").write_text("\n".join(map(json.dumps, votes)))
    overrides = [override for override in small if not override.startswith("data.")]
    ended = rlhf_rm(
        "train",
        f"--config-dir={example / 'my_rewards' / 'conf'}",
        "experiment=votes",
        "data.path=votes.jsonl",
        f"hydra.run.dir={tmp_path / 'run'}",
        *overrides,
    )
    assert ended.code == 0, ended.err
    config = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert config.method.module.loss == {"_target_": "my_rewards.focal.FocalLoss", "focus": 1.0}
    assert config.data._target_ == "my_rewards.votes.VotesSource"
    measured = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert measured["data"]["source"] == "votes"


def test_the_classes_of_the_package_do_what_they_say(example, monkeypatch):
    monkeypatch.syspath_prepend(str(example))
    focal = import_module("my_rewards.focal").FocalLoss(focus=2.0)
    brief = import_module("my_rewards.brief").BriefRewardModule(
        torch.nn.Linear(1, 1), focal, None, None, None, 0.0, price=0.5
    )
    pairs = SimpleNamespace(
        margin_B=torch.tensor([0.0, 1.0]),
        target_B=None,
        chosen_B=torch.tensor([0, 2]),
        rejected_B=torch.tensor([1, 3]),
        rows=SimpleNamespace(length_N=torch.tensor([300, 100, 50, 50])),
    )
    losses = brief.pair_losses(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0]), pairs)
    right = 1 / (1 + math.exp(-1))
    assert losses.tolist() == pytest.approx(
        [(1 - right) ** 2 * -math.log(right) + 0.5 * 1 * 2, 0.5**2 * math.log(2)]
    )
