"""Contrastive reward models, against the plain formula, one process and the command line."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from rlhf_rm.data.contrastive import ContrastiveDataModule
from rlhf_rm.errors import UserError
from rlhf_rm.functional.contrastive import prototype_cosines, sinkhorn, swapped_prediction
from rlhf_rm.methods.schedules import warmup_constant
from rlhf_rm.models.attention.sdpa import SDPAAttention
from rlhf_rm.models.reward import RewardModel

ROOT = Path(__file__).parents[2]
KINDS = [(kind, items) for kind in ("simcse", "swav") for items in ("pairs", "difference")]
PACKINGS = [
    {"layout": layout, "row_tokens": row, "micro_tokens": micro, "share_prefix": share}
    for layout, row, micro in (("shared", 70, 150), ("packed", 999, 9999), ("padded", 1, 1))
    for share in (False, True)
]


def trained(tiny, directory, kind, items, data, steps=2, dropout=0.0, weight=0.7):
    """Losses and weights after some steps over the same six pairs of unequal weight, and their split."""
    tokenizer = tiny.make_tokenizer()
    module = tiny.make_contrastive(
        tiny.make_model(tokenizer),
        kind,
        items,
        weight,
        dropout,
        lr=0.05,
        optimizer="SGD",
        gradient_clip=None,
        schedule=partial(warmup_constant, warmup=0.0),
    )
    settings = tiny.LOADING | {"batch_size": 6} | data
    datamodule = ContrastiveDataModule(tiny.Source(train=6), tokenizer, **settings)
    split = datamodule.split("train")
    split.labels.weight[:] = np.array([0.5, 3.0, 0.5, 1.0, 2.0, 0.25])
    watch = tiny.Watch()
    trainer = tiny.make_trainer(
        directory, [watch], max_epochs=None, max_steps=steps, limit_val_batches=0, every_n_steps=99
    )
    trainer.fit(module, datamodule=datamodule)
    return watch.losses, module, split


def plain_loss(module, split, kind, items):
    """The formula, each response by itself: preferences, and the contrast of views that are equal."""
    network, states = module.model.network, []
    for tree in split.trees:
        ids = [torch.from_numpy(branch).long()[None] for branch in tree.branches]
        states.append(torch.stack([network.model(input_ids=one).last_hidden_state[0, -1] for one in ids]))
    chosen, rejected = torch.stack(states).unbind(1)
    reward = [network.score(one)[:, 0] for one in (chosen, rejected)]
    preference = -torch.nn.functional.logsigmoid(reward[0] - reward[1])
    both = torch.cat([chosen, rejected] if items == "pairs" else [chosen - rejected, rejected - chosen])
    if kind == "simcse":
        cosine = torch.cosine_similarity(both[:, None], both[None], dim=2) / 0.5
        contrast = cosine.logsumexp(1) - cosine.diagonal()
    else:
        score = prototype_cosines(both, module.contrastive.prototype_KD)
        code = sinkhorn(score, epsilon=0.5, iterations=3)
        contrast = swapped_prediction(score, score, code, code, temperature=0.5)
    loss_B = preference + 0.7 * contrast.view(2, -1).mean(0)
    weight = torch.from_numpy(split.labels.weight)
    return (loss_B * weight).sum() / weight.sum()


@pytest.mark.parametrize(("kind", "items"), KINDS)
def test_without_dropout_every_packing_gives_the_plain_formula(tiny, tmp_path, kind, items):
    results = [trained(tiny, tmp_path, kind, items, data) for data in PACKINGS]
    reference = tiny.make_contrastive(tiny.make_model(tiny.make_tokenizer()), kind, items)
    expected = []
    for _ in range(2):
        reference.contrastive.before_step()
        reference.zero_grad()
        loss = plain_loss(reference, results[0][2], kind, items)
        loss.backward()
        expected.append(loss.item())
        with torch.no_grad():
            for parameter in reference.parameters():
                decay = 0.01 if parameter.ndim >= 2 else 0.0
                parameter.sub_(0.05 * (parameter.grad + decay * parameter))
    for losses, module, _ in results:
        assert losses == pytest.approx(expected, abs=2e-5)
        theirs = dict(reference.named_parameters())
        for name, parameter in module.named_parameters():
            assert torch.allclose(parameter, theirs[name], atol=2e-5), name


def test_weight_0_without_dropout_is_the_plain_method(tiny, tmp_path):
    settings = {"model": {}, "data": {"batch_size": 6}, "max_epochs": 2}
    (tmp_path / "plain").mkdir()
    (tmp_path / "contrast").mkdir()
    _, plain, _ = tiny.fit(tmp_path / "plain", **settings)
    contrastive = {"kind": "simcse", "items": "pairs", "weight": 0.0}
    _, contrast, _ = tiny.fit(tmp_path / "contrast", contrastive=contrastive, **settings)
    for ours, theirs in zip(contrast.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_views_have_noise_of_their_own_and_share_that_of_a_shared_prefix(tiny):
    tokenizer = tiny.make_tokenizer()
    model = tiny.make_model(tokenizer)
    tiny.make_contrastive(model, "simcse", "pairs", dropout=0.3)
    for share in (False, True):
        data = ContrastiveDataModule(
            tiny.Source(), tokenizer, share_prefix=share, **tiny.LOADING | {"micro_tokens": 9999}
        )
        (pairs,) = data.train_step([3])
        assert pairs.index_B.tolist() == [3, 3] and len(set(pairs.chosen_B.tolist())) == 2
        tree = pairs.rows.tree_RT[pairs.rows.tree_RT >= 0]
        assert len(tree.unique()) == (1 if share else 2)
        prefix = int(((pairs.rows.branch_RT == 0) & (pairs.rows.tree_RT >= 0)).sum())
        size = int(data.split("train").trees[3].shared)
        assert prefix == (size if share else 2 * size)
        first, second = model.states(pairs.rows)[pairs.chosen_B]
        assert not torch.allclose(first, second)
        model.eval()
        first, second = model.states(pairs.rows)[pairs.chosen_B]
        assert torch.allclose(first, second, atol=1e-6)
        model.train()


def test_dropout_that_does_not_reach_the_states_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("rlhf_rm.methods.contrastive.set_hidden_dropout", lambda network, rate: None)
    with pytest.raises(UserError, match=r"dropout=0\.3 changes nothing .* llama model reads, so both views"):
        trained(tiny, tmp_path, "simcse", "pairs", PACKINGS[0], dropout=0.3)


def test_prototypes_lie_on_the_unit_sphere_at_each_step(tiny, tmp_path):
    _, module, _ = trained(tiny, tmp_path, "swav", "pairs", PACKINGS[1], steps=3)
    module.contrastive.before_step()
    length_K = module.contrastive.prototype_KD.norm(dim=1)
    assert torch.allclose(length_K, torch.ones(5), atol=1e-6)
    start = tiny.make_contrastive(tiny.make_model(tiny.make_tokenizer()), "swav", "pairs")
    assert not torch.allclose(module.contrastive.prototype_KD, start.contrastive.prototype_KD)


def run_of(directory, ranks, kind, items):
    directory.mkdir()
    return {
        "directory": str(directory),
        "source": {"train": 24, "threes": True},
        "data": {"batch_size": 4 // ranks, "micro_tokens": 90 if ranks == 2 else 9999},
        "module": {"optimizer": "SGD", "lr": 0.002, "gradient_clip": None},
        "contrastive": {"kind": kind, "items": items},
        "devices": ranks,
        "strategy": "ddp" if ranks == 2 else "auto",
        "every_n_steps": 99,
        "weighted": True,
    }


def test_two_ranks_equal_one_process_with_twice_the_batch(tiny, tmp_path):
    """Real processes, which have different numbers of pairs where prompts have two responses or three."""
    one = [run_of(tmp_path / f"{kind}_{items}_1", 1, kind, items) for kind, items in KINDS]
    two = [run_of(tmp_path / f"{kind}_{items}_2", 2, kind, items) for kind, items in KINDS]
    spoilt = run_of(tmp_path / "spoilt", 2, *KINDS[0]) | {"spoilt": 5}
    tiny.in_a_process([*two, spoilt])
    tiny.main([dict(run) for run in one])
    for single, double in zip(one, two, strict=True):
        tiny.assert_same_run(single["directory"], double["directory"], steps=6)
    # Both ranks name the pair, whichever of them has it.
    (said,) = {path.read_text() for path in (tmp_path / "spoilt").glob("refused_*.txt")}
    assert "the loss became nan" in said and "on pair train-2 (" in said


def test_a_run_shows_its_states_and_resumes_bit_by_bit(rlhf_rm, small, tmp_path):
    told = [*small, "method=contrastive", "contrastive=swav_pairs", "callbacks.checkpoint.every_n_steps=2"]
    told.append("trainer.log_every_n_steps=1")
    whole, part = tmp_path / "whole", tmp_path / "part"
    ended = rlhf_rm("train", *told, f"hydra.run.dir={whole}")
    assert ended.code == 0, ended.err
    assert (whole / "test_embedding.png").stat().st_size > 10_000
    names = (whole / "metrics.csv").read_text().splitlines()[0].split(",")
    wanted = {f"train/{name}" for name in ("contrastive", "alignment", "uniformity", "clusters")}
    assert wanted | {"val/cosine"} <= set(names)
    first = whole / "checkpoints/step_00000002.ckpt"
    assert rlhf_rm("train", *told, f"hydra.run.dir={part}", f"resume={first}").code == 0
    weights = "export/model.safetensors"
    assert (part / weights).read_bytes() == (whole / weights).read_bytes()
    # Also what the states were before the training, which the rest of it does not know.
    assert (part / "figures.json").read_bytes() == (whole / "figures.json").read_bytes()


def test_the_prototypes_are_as_wide_as_what_the_head_reads(tiny):
    shape = {"hidden_size": 16, "word_embed_proj_dim": 8, "ffn_dim": 24, "vocab_size": 90}
    config = AutoConfig.for_model("opt", num_hidden_layers=1, num_attention_heads=2, num_labels=1, **shape)
    network = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa")
    module = tiny.make_contrastive(RewardModel(network, SDPAAttention()), "swav", "pairs")
    assert module.contrastive.prototype_KD.shape == (5, 8) == (5, network.score.in_features)


@pytest.mark.parametrize("changes", [["denoise=flip_margin"], ["loss=hinge"], ["loss=plackett_luce"]])
def test_it_goes_with_recipes_and_losses(rlhf_rm, small, world_strengths, changes):
    told = [f"denoise.strengths={world_strengths}"] if changes[0].startswith("denoise") else []
    ended = rlhf_rm("train", *small, "method=contrastive", "contrastive=simcse_difference", *changes, *told)
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=contrastive"], "needs to know how: add contrastive=simcse_pairs"),
        (["contrastive=swav_pairs"], "a loss that this method does not read: add method=contrastive"),
        (["loader.batch_size=1"], "leaves a pair nothing to be contrasted with"),
        (["contrastive.loss.items=words"], "contrastive.loss.items=words is unknown: use one of pairs, diff"),
        (["contrastive.loss.temperature=0"], "contrastive.loss.temperature=0 must be a number above 0"),
        (["contrastive.weight=-1"], "contrastive.weight=-1 must be a number of at least 0"),
        (["contrastive.dropout=1"], "contrastive.dropout=1 must be a number of at least 0 and below 1"),
        (
            ["contrastive=swav_pairs", "contrastive.loss.prototypes=1"],
            "prototypes=1 must be a whole number",
        ),
    ],
)
def test_bad_input_is_one_sentence(rlhf_rm, small, overrides, message):
    if not any(one.startswith(("method=", "contrastive=")) for one in overrides):
        overrides = ["method=contrastive", "contrastive=simcse_pairs", *overrides]
    elif len(overrides) == 2:
        overrides = ["method=contrastive", *overrides]
    ended = rlhf_rm("train", *small, *overrides)
    assert ended.code == 2 and message in ended.err
    assert ended.err.count("\n") == 1
