"""What `--help` shows of a command."""

import pytest

from rlhf_rm.cli import COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_what_a_command_reads_and_what_it_means(rlhf_rm, command):
    ended = rlhf_rm(command, "--help")
    assert ended.code == 0, ended.err
    assert f"rlhf-rm {command}: " in ended.out and "traceback: false" in ended.out
    assert "defaults:" not in ended.out and "hydra:" not in ended.out
    assert ("optimizer: adamw" in ended.out) == (command in ("train", "iterate"))


def test_settings_stand_there_as_they_are_written(rlhf_rm):
    shown = rlhf_rm("sample", "--help").out
    assert "k: 1                      # responses to each prompt" in shown
    assert "output: ${paths.run_dir}/samples.jsonl" in shown
    assert "run: ???" in shown  # of a file that it includes
    assert "sampled:" in (shown := rlhf_rm("iterate", "--help").out)
    assert "  set: train" in shown and "judge: endpoint, gold, reward" in shown
    assert "strategy [trainer.KEY]: auto" in shown and "launcher [KEY]: joblib" in shown
    assert "experiment" not in shown and "resume" not in shown  # it refuses them
