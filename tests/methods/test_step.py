"""One step is the same however it is packed, and however many ranks it is dealt to."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from rlhf_rm.callbacks.checkpoint import checkpoints
from rlhf_rm.errors import UserError
from rlhf_rm.methods.schedules import warmup_constant
from rlhf_rm.methods.step import parameter_groups

ROOT = Path(__file__).parents[2]
SETTINGS = [
    {"layout": layout, "row_tokens": row_tokens, "micro_tokens": micro_tokens}
    for layout in ("shared", "packed", "padded")
    for row_tokens, micro_tokens in ((1, 1), (70, 150), (999, 9999))
]


def trained(tiny, directory, module, data, steps=1):
    """Losses and weights after some steps, each over the same six pairs of unequal weight."""
    tokenizer = tiny.make_tokenizer()
    made = tiny.make_module(
        tiny.make_model(tokenizer),
        lr=0.05,
        optimizer="SGD",
        schedule=partial(warmup_constant, warmup=0.0),
        **module,
    )
    datamodule = tiny.make_datamodule(tiny.Source(train=6), tokenizer, batch_size=6, **data)
    split = datamodule.split("train")
    split.labels.weight[:] = np.array([0.0, 3.0, 0.5, 1.0, 2.0, 0.25])
    split.labels.margin[:] = np.array([0.0, 0.5, 1.0, 0.0, 2.0, 0.0])
    split.labels.target[:] = np.array([1.0, 0.9, 0.5, 0.2, 1.0, 1.0])
    watch = tiny.Watch()
    trainer = tiny.make_trainer(
        directory, [watch], max_epochs=None, max_steps=steps, limit_val_batches=0, every_n_steps=99
    )
    trainer.fit(made, datamodule=datamodule)
    return watch.losses, {name: p.detach() for name, p in made.model.named_parameters()}, split


def plain_loss(model, split):
    """The weighted mean of the Bradley-Terry loss, each response by itself."""

    def reward(ids):
        return model.network(input_ids=torch.from_numpy(ids).long()[None]).logits[0, 0]

    losses = []
    columns = split.labels.margin.tolist(), split.labels.target.tolist()
    for tree, margin, target in zip(split.trees, *columns, strict=True):
        difference = reward(tree.branches[0]) - reward(tree.branches[1]) - margin
        losses.append(
            -target * nn.functional.logsigmoid(difference)
            - (1 - target) * nn.functional.logsigmoid(-difference)
        )
    weight = torch.from_numpy(split.labels.weight)
    return (torch.stack(losses) * weight).sum() / weight.sum()


def test_every_packing_gives_the_losses_and_the_weights_of_the_plain_formula(tiny, tmp_path):
    results = [trained(tiny, tmp_path, {"gradient_clip": None}, data, steps=2) for data in SETTINGS]
    split = results[0][2]
    model = tiny.make_model(tiny.make_tokenizer())
    expected_losses = []
    for _ in range(2):
        model.zero_grad()
        loss = plain_loss(model, split)
        loss.backward()
        expected_losses.append(loss.item())
        with torch.no_grad():
            for parameter in model.parameters():
                decay = 0.01 if parameter.ndim >= 2 else 0.0  # of matrices alone
                parameter.sub_(0.05 * (parameter.grad + decay * parameter))
    for losses, weights, _ in results:
        assert losses == pytest.approx(expected_losses, abs=1e-5)
        assert_close(weights, dict(model.named_parameters()))


def test_the_gradient_is_clipped_over_the_whole_step(tiny, tmp_path):
    start = dict(tiny.make_model(tiny.make_tokenizer()).named_parameters())

    def moved(gradient_clip):
        _, weights, _ = trained(tiny, tmp_path, {"gradient_clip": gradient_clip}, SETTINGS[0])
        moves = []
        for name, before in start.items():
            decayed = before.detach() * (1 - 0.05 * 0.01 * (before.ndim >= 2))
            moves.append((weights[name] - decayed).flatten())
        return torch.cat(moves)

    free, clipped = moved(None), moved(0.01)
    assert clipped.norm().item() == pytest.approx(0.05 * 0.01, rel=0.02)
    assert free.norm() > 0.05 * 0.02
    assert nn.functional.cosine_similarity(free, clipped, dim=0) > 0.99


def run_of(directory, ranks, pairs=7, **changes):
    """A run of 12 steps over 2 epochs with 4 pairs a step, on one rank or on two."""
    directory.mkdir()
    return {
        "directory": str(directory),
        "source": {"train": 26, "validation": pairs, "test": pairs},
        "data": {"batch_size": 4 // ranks, "micro_tokens": 90 if ranks == 2 else 9999},
        # A clipped gradient would hide its size; large steps would blow up rounding.
        "module": {"optimizer": "SGD", "lr": 0.002, "gradient_clip": None},
        "devices": ranks,
        "strategy": "ddp" if ranks == 2 else "auto",
        "max_epochs": 2,
        "val_check_interval": 0.5,
        "every_n_steps": 99,
        "weighted": True,
        "test": True,
        **changes,
    }


def result_of(run):
    directory = Path(run["directory"])
    return json.loads((directory / "watched.json").read_text()), torch.load(directory / "weights.pt")


def test_two_ranks_equal_one_process_with_twice_the_batch(tiny, tmp_path):
    """Real processes; validation and test have pairs that do not divide by two, and one pair alone.

    The last run gets a SIGTERM on its first rank only; one process goes on from what it leaves.
    """
    counts = {"uneven": 7, "alone": 1}
    one = {name: run_of(tmp_path / f"{name}_1", 1, pairs) for name, pairs in counts.items()}
    two = {name: run_of(tmp_path / f"{name}_2", 2, pairs) for name, pairs in counts.items()}
    stopped = run_of(tmp_path / "stopped", 2, watch={"sigterm_after": 5})
    tiny.in_a_process([*two.values(), stopped])
    assert [path.name for path in checkpoints(tmp_path / "stopped")] == ["step_00000005.ckpt"]
    resumed = run_of(tmp_path / "resumed", 1, resume=str(tmp_path / "stopped/step_00000005.ckpt"))
    tiny.main([dict(run) for run in (*one.values(), resumed)])

    for name, pairs in counts.items():
        (single, weights), (double, double_weights) = result_of(one[name]), result_of(two[name])
        assert len(single["losses"]) == len(double["losses"]) == 12
        np.testing.assert_allclose(double["losses"], single["losses"], atol=1e-5)
        np.testing.assert_allclose(double["validations"], single["validations"], atol=1e-5)
        assert [step for step, _ in single["validations"]] == [3, 6, 9, 12]
        assert_close(double_weights, weights)
        assert double["test_index"] == single["test_index"] == list(range(pairs))
        results = [watched["results"]["sets"]["test"] for watched in (single, double)]
        assert results[0]["pairs"] == results[1]["pairs"] == pairs
        assert results[1]["mean_margin"] == pytest.approx(results[0]["mean_margin"], abs=1e-5)
        # Each rank had its share of each step.
        for (_, whole), (_, share) in zip(single["steps"], double["steps"], strict=True):
            assert len(share) == 2
            assert set(share) < set(whole)
    assert_close(result_of(resumed)[1], result_of(one["uneven"])[1])


def assert_close(weights, expected):
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight.detach(), atol=1e-5, rtol=0)


def test_biases_and_norms_do_not_decay_and_frozen_weights_are_left_out():
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    module[2].requires_grad_(False)
    matrices, vectors = parameter_groups(module)
    assert [p.shape for p in matrices["params"]] == [(4, 3)]
    assert "weight_decay" not in matrices
    assert [p.shape for p in vectors["params"]] == [(4,), (4,), (4,)]
    assert vectors["weight_decay"] == 0.0


def test_clipping_with_scaled_gradients_is_refused(tiny):
    module = tiny.make_module(tiny.make_model(tiny.make_tokenizer()), gradient_clip=1.0)
    module._trainer = SimpleNamespace(precision="16-mixed")
    with pytest.raises(UserError, match="use bf16-mixed"):
        module.configure_optimizers()


def test_the_schedule_reaches_its_end_with_the_last_step(tiny, tmp_path):
    trainer, _, watch = tiny.fit(tmp_path, max_epochs=2, limit_val_batches=0, every_n_steps=99)
    # 12 steps, the first 2 of them warm-up: 0.2 of the run.
    expected = [0.5, 1.0, *(1 - done / 10 for done in range(10))]
    np.testing.assert_allclose(watch.rates, np.array(expected) * 1e-2, rtol=1e-6)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0)
