import json
import re

import pytest
from omegaconf import OmegaConf

from rlhf_rm.commands.run_directory import find_checkpoint
from rlhf_rm.errors import UserError


def test_after_sigterm_resume_auto_ends_with_the_weights_of_a_whole_run(
    rlhf_rm, small, tmp_path, stopped_after_a_step
):
    settings = [*small, "callbacks.checkpoint.every_n_steps=100"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert rlhf_rm("train", *settings, f"hydra.run.dir={whole}").code == 0

    with stopped_after_a_step():
        ended = rlhf_rm("train", *settings, f"hydra.run.dir={stopped}")
    assert ended.code == 2
    assert "training was interrupted; add resume=auto" in ended.err
    saved = sorted(path.name for path in (stopped / "checkpoints").iterdir())
    assert saved == ["manifest.json", "step_00000001.ckpt"]
    assert not (stopped / "export").exists()
    assert not (stopped / "metrics.json").exists()

    assert rlhf_rm("train", *settings, f"hydra.run.dir={stopped}", "resume=auto").code == 0
    weights = "export/model.safetensors"
    assert (stopped / weights).read_bytes() == (whole / weights).read_bytes()


def test_a_finished_run_goes_on_when_it_is_given_more_steps(rlhf_rm, small, tmp_path, stopped_after_a_step):
    run = tmp_path / "run"
    told = [*small, f"hydra.run.dir={run}", "trainer.max_epochs=9", "callbacks.checkpoint.every_n_steps=1"]
    assert rlhf_rm("train", *told, "trainer.max_steps=2").code == 0

    # The cache of the run may be gone, so the one of the command is taken.
    config = (run / "config.yaml").read_text()
    (tmp_path / "file").touch()
    (run / "config.yaml").write_text(re.sub(r"cache_dir: .*", f"cache_dir: {tmp_path}/file/cache", config))
    # What was measured is told of the weights that it was measured of, and of no others.
    for step, there in ((1, False), (2, True)):
        words = [f"checkpoint={run}/checkpoints/step_{step:08d}.ckpt", f"output={tmp_path}/{step}"]
        ended = rlhf_rm("export", f"run={run}", *words)
        assert ended.code == 0, ended.err
        assert ("## Measured" in (tmp_path / str(step) / "README.md").read_text()) == there
    assert (run / "metrics.json").exists()
    with stopped_after_a_step():
        assert rlhf_rm("train", *told, "trainer.max_steps=4", "resume=auto").code == 2
    assert not (run / "metrics.json").exists()

    ended = rlhf_rm("train", *told, "trainer.max_steps=4", "resume=auto")
    assert ended.code == 0, ended.err
    assert json.loads((run / "metrics.json").read_text())["steps"] == 4
    assert (run / "checkpoints" / "step_00000004.ckpt").is_file()


def test_a_checkpoint_of_other_data_or_another_tokenizer_is_refused(rlhf_rm, small, tmp_path):
    run = tmp_path / "run"
    assert rlhf_rm("train", *small, f"hydra.run.dir={run}").code == 0
    config = OmegaConf.load(run / "config.yaml")
    told = [*small, f"hydra.run.dir={run}", "resume=auto", "trainer.max_epochs=9"]
    ended = rlhf_rm("train", *told, "data.seed=5")
    assert ended.code == 2 and "was made on other synthetic data" in ended.err
    ended = rlhf_rm("train", *told, "model.template=plain")
    assert ended.code == 2 and "was made with another tokenizer or chat template" in ended.err
    config.model.template = "plain"
    OmegaConf.save(config, run / "config.yaml")
    ended = rlhf_rm("export", f"run={run}", f"output={tmp_path / 'out'}")
    assert ended.code == 2 and "was made with another tokenizer or chat template" in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("resume", [True, False, 3])
def test_what_names_no_checkpoint_is_refused(tmp_path, resume):
    with pytest.raises(UserError, match=f"resume={resume} is neither auto nor a checkpoint"):
        find_checkpoint(tmp_path, resume)
