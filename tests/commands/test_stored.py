import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from rlhf_rm.commands.stored import own_targets, storable, stored_config
from rlhf_rm.errors import UserError

KEY = "hf_a1b2c3d4e5f6"


def test_a_secret_of_the_environment_is_kept_as_where_it_comes_from(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", KEY)
    monkeypatch.setenv("SHORT_KEY", "a")
    cfg = OmegaConf.create({"url": "https://me:${oc.env:HF_TOKEN}@host", "many": [{"key": KEY}, 1, "a"]})
    kept = storable(cfg)
    assert KEY not in OmegaConf.to_yaml(kept) and "${oc.env:HF_TOKEN}" in OmegaConf.to_yaml(kept)
    assert OmegaConf.to_container(kept, resolve=True) == OmegaConf.to_container(cfg, resolve=True)


def test_no_file_of_a_run_holds_a_secret(rlhf_rm, small, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef" * 2 + "01234567")
    monkeypatch.setenv("HF_TOKEN", KEY)
    told = ["logger=wandb", "logger.offline=true", "+note='read with ${oc.env:HF_TOKEN}'"]
    ended = rlhf_rm("train", *small, *told, f"hydra.run.dir={tmp_path}/run")
    assert ended.code == 0, ended.err
    assert not any(secret in ended.out + ended.err for secret in (KEY, "0123456789abcdef"))
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert any("wandb" in path.parts for path in files)
    for path in files:
        content = path.read_bytes()
        assert KEY.encode() not in content and b"0123456789abcdef" not in content, path
    exported = rlhf_rm("export", f"run={tmp_path}/run", f"output={tmp_path}/out")
    assert exported.code == 0, exported.err


def write(run, **changes):
    config = OmegaConf.create(
        {"data": {"_target_": "rlhf_rm.data.jsonl.JsonlSource"}, "model": {"trust_remote_code": False}}
    )
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value, force_add=True)
    run.mkdir(exist_ok=True)
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config))
    return str(run)


def test_what_a_strange_configuration_names_is_called_only_on_demand(tmp_path):
    own = write(tmp_path / "own")
    assert stored_config(own, trusted=False).data._target_ == "rlhf_rm.data.jsonl.JsonlSource"
    deep = write(tmp_path / "deep", callbacks={"one": [{"_target_": "os.system", "command": "touch trap"}]})
    with pytest.raises(UserError, match=r"would call os\.system.*trust_run=true"):
        stored_config(deep, trusted=False)
    assert stored_config(deep, trusted=True).callbacks.one[0].command == "touch trap"
    assert stored_config(deep, "data", trusted=False)._target_.endswith("JsonlSource")
    code = write(tmp_path / "code", model__trust_remote_code=True)
    with pytest.raises(UserError, match="Python code that comes with a hub model"):
        stored_config(code, trusted=False)


def test_the_targets_are_those_of_the_shipped_files():
    assert {"rlhf_rm.methods.reward.RewardModule", "torch.optim.AdamW", "lightning.Trainer"} <= own_targets()
    assert not any(name.startswith(("os.", "subprocess.", "builtins.")) for name in own_targets())


def test_commands_call_nothing_strange_of_a_run(rlhf_rm, small, tmp_path):
    run, trap = tmp_path / "run", tmp_path / "trap"
    assert rlhf_rm("train", *small, f"hydra.run.dir={run}").code == 0
    config = OmegaConf.load(run / "config.yaml")
    config.data = {
        "_target_": "pathlib.Path.touch",
        "self": {"_target_": "pathlib.Path", "_args_": [str(trap)]},
    }
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config))
    shutil.copytree(run, tmp_path / "copy")
    weights = tmp_path / "copy/export/model.safetensors"  # of another model, since each has one vote
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights, {"format": "pt"})
    for command, *told in (
        ("export", f"run={run}", f"output={tmp_path}/out"),
        ("evaluate", f"run={run}"),
        ("vote", f"members=[{run},{tmp_path}/copy]"),
    ):
        ended = rlhf_rm(command, *told)
        assert ended.code == 2 and "would call pathlib.Path" in ended.err, (command, ended.err)
    assert not trap.exists() and not (tmp_path / "out").exists()
    assert json.loads((run / "metrics.json").read_text())["steps"] > 0 and Path(run / "export").is_dir()
