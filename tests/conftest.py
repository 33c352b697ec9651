"""What many tests need: one thread a worker, no network, and the command line in this process."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> str:
    """Where tokenizers and base models are made, once for each worker."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def rlhf_rm(capsys, monkeypatch, tmp_path, cache) -> Callable[..., Ended]:
    """Run a command of the command line: ``rlhf_rm("train", "seed=2")``."""
    import logging

    from rlhf_rm import cli

    monkeypatch.setenv("RLHF_RM_CACHE", cache)
    monkeypatch.chdir(tmp_path)

    def call(command: str, *overrides: str) -> Ended:
        handlers = logging.getLogger().handlers[:]
        try:
            with pytest.raises(SystemExit) as stop:
                cli.run(command, ["rlhf-rm", *overrides])
        finally:
            # Hydra replaces the handlers, with streams that are closed when the test ends.
            logging.getLogger().handlers[:] = handlers
        captured = capsys.readouterr()
        return Ended(int(stop.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def train(cache) -> Callable[..., str]:
    """Train in a process of its own, and say what it said: ``train(run_dir, "seed=2")``."""

    def run(directory: Path, *overrides: str) -> str:
        ended = subprocess.run(
            [sys.executable, "train.py", f"hydra.run.dir={directory}", *overrides],
            cwd=Path(__file__).parents[1],
            env=os.environ | {"RLHF_RM_CACHE": cache},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout + ended.stderr

    return run


@pytest.fixture
def stopped_after_a_step(monkeypatch):
    """Let trainings get a SIGTERM in their first step: ``with stopped_after_a_step(): …``."""

    from rlhf_rm.callbacks.checkpoint import StepCheckpoint

    @contextmanager
    def stopped():
        started = StepCheckpoint.on_train_start

        def with_signal(self, trainer, module):
            started(self, trainer, module)
            os.kill(os.getpid(), signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(StepCheckpoint, "on_train_start", with_signal)
            yield

    return stopped


@pytest.fixture(scope="session")
def small() -> list[str]:
    """Overrides of a training on the world that takes a second or two."""
    return [
        "debug=tiny",
        "data.train_pairs=40",
        "data.validation_pairs=10",
        "data.test_pairs=12",
        "data.shifted_pairs=4",
        "data.demonstrations=40",
        "model.architecture.num_hidden_layers=1",
        "model.architecture.hidden_size=16",
        "model.architecture.intermediate_size=24",
        "model.architecture.num_attention_heads=2",
        "model.architecture.num_key_value_heads=2",
        "model.vocab_size=300",
    ]


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module ``tests/tiny.py``: a tiny run from made-up pairs."""
    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def world_strengths(small, tmp_path):
    """The directory of a vote on the small world: what gold says of each training label, nearly."""
    import numpy as np

    from rlhf_rm.data.strengths import from_members, write_strengths
    from rlhf_rm.data.world.source import WorldSource

    sizes = dict(o.removeprefix("data.").split("=") for o in small if o.startswith("data."))
    source = WorldSource(seed=0, flip_rate=0.0, **{name: int(value) for name, value in sizes.items()})
    pairs = source.pairs("train")
    gold = np.array([pair.notes["gold_chosen"] - pair.notes["gold_rejected"] for pair in pairs])
    gold += 1e-6 * np.arange(len(gold))  # no two alike
    members = np.stack([gold - 0.1, gold + 0.1])
    write_strengths(tmp_path / "vote_of_gold", from_members([p.pair_id for p in pairs], members))
    return tmp_path / "vote_of_gold"
