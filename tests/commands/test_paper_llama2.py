"""The paper's settings for Llama 2, on a tiny model of its kind and preferences as they come from the hub."""

import json

import pytest

from tests.test_conf import data_of, stand_in

ONE = ["strategy=auto", "trainer.devices=1", "trainer.precision=32-true", "sampling.max_new_tokens=8"]


@pytest.mark.slow
def test_its_steps_follow_each_other(rlhf_rm, tmp_path):
    data = data_of("hh_hub", tmp_path)

    def train(name, *overrides):
        told = ["experiment=paper_llama2", "debug=tiny", *ONE, *data, f"hydra.run.dir={tmp_path / name}"]
        ended = rlhf_rm("train", *told, *overrides)
        assert ended.code == 0, ended.err
        return json.loads((tmp_path / name / "metrics.json").read_text())

    sft = f"model.path={tmp_path}/sft/export"
    train("sft", "method=sft", f"model.path={stand_in('llama2_7b', tmp_path / 'hub')}", "optimizer.lr=2e-5")
    for seed in (1, 2):
        assert train(f"reward_{seed}", sft, f"seed={seed}")["sets"]["test"]["pairs"] > 0
    voted = rlhf_rm("vote", f"members={tmp_path}/reward_*", f"hydra.run.dir={tmp_path}/vote")
    assert voted.code == 0, voted.err
    strengths = f"denoise.strengths={tmp_path}/vote"
    train("denoised", sft, "method=denoised", "denoise=flip_margin", strengths)
    train("contrastive", sft, "method=contrastive", "contrastive=simcse_pairs", "loader.batch_size=2")
    said = train("ppo", sft, "method=ppo", f"ppo.reward={tmp_path}/contrastive", "optimizer.lr=5e-7")
    assert said["sets"]["test"]["prompts"] > 0


def test_its_numbers_are_those_of_the_paper(rlhf_rm):
    ended = rlhf_rm("train", "experiment=paper_llama2", "--cfg=job", "--resolve")
    assert ended.code == 0, ended.err
    for line in (
        "lr: 5.0e-06",
        "critic_learning_rate: 1.5e-06",
        "kl_weight: 0.05",
        "temperature: 0.8",
        "top_p: 0.9",
        "repetition_penalty: 1.1",
        "max_new_tokens: 512",
        "warmup: 0.1",
        "devices: 8",
        "path: meta-llama/Llama-2-7b-hf",
    ):
        assert line in ended.out, line
