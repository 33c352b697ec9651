from pathlib import Path

import lightning as L
import pytest
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rlhf_rm.callbacks.progress import TrainingProgress
from rlhf_rm.callbacks.throughput import Throughput
from rlhf_rm.commands.build import build_run, build_start, build_tokenizer, build_trainer
from rlhf_rm.commands.compose import compose
from rlhf_rm.losses.hinge import HingeLoss


class OwnLoss(HingeLoss):
    """A loss of somebody else's."""


def test_compose_gives_what_the_command_line_would_have(rlhf_rm, small, tmp_path, monkeypatch):
    assert rlhf_rm("train", *small, "optimizer.lr=1e-3", f"hydra.run.dir={tmp_path / 'run'}").code == 0
    composed = compose("train", *small, "optimizer.lr=1e-3", run_dir=str(tmp_path / "run"))
    saved = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert OmegaConf.to_container(composed, resolve=True) == saved
    with pytest.raises(ConfigCompositionException):
        compose("train", "optimizer.learning_rate=1", run_dir="DIR")
    monkeypatch.setenv("RLHF_RM_CACHE", "~/c")
    assert compose("train", run_dir="DIR").paths.cache_dir == str(Path.home() / "c")


def test_a_source_is_read_for_a_tokenizer_only_where_there_is_none_yet(tiny, tmp_path):
    spec = instantiate(compose("train", "model.vocab_size=300", run_dir=str(tmp_path)).model)
    read = []

    class Source(tiny.Source):
        def pairs(self, split):
            read.append(split)
            return super().pairs(split)

    made = build_tokenizer(spec, Source(), tmp_path)
    assert set(read) == {"train"}
    read.clear()
    assert build_tokenizer(spec, Source(), tmp_path).get_vocab() == made.get_vocab()
    assert read == []


def test_runs_share_what_they_start_from_and_train_as_the_command_does(small, tmp_path, cache, monkeypatch):
    monkeypatch.setenv("RLHF_RM_CACHE", cache)

    def composed(*overrides, name):
        nulls = ("callbacks.checkpoint=null", "callbacks.throughput=null", "base.callbacks.progress=null")
        return compose("train", *small, *nulls, *overrides, run_dir=str(tmp_path / name))

    start = build_start(composed(name="none"))
    own = ["loss=hinge", f"loss._target_={__name__}.OwnLoss"]
    losses = []
    for overrides in ([], [], own):
        cfg = composed(*overrides, name="run")
        L.seed_everything(cfg.seed, verbose=False)
        run = build_run(cfg, start)
        assert run.source is start.source
        trainer = build_trainer(cfg)
        assert any(isinstance(one, TrainingProgress) for one in trainer.callbacks)
        assert not any(isinstance(one, Throughput) for one in trainer.callbacks)
        trainer.fit(run.module, datamodule=run.datamodule)
        losses.append(float(trainer.callback_metrics["train/loss"]))
    assert losses[0] == losses[1] != losses[2]
    assert isinstance(run.module.loss, OwnLoss)
