"""MetaRM, against a slow reference, second order, two ranks, and through the command line."""

import itertools
import json
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoConfig, AutoModelForSequenceClassification

from rlhf_rm.data.meta import MetaDataModule
from rlhf_rm.data.response_file import read_responses
from rlhf_rm.data.shifted import split_prompts
from rlhf_rm.data.splits import assign_split
from rlhf_rm.data.types import Message, prompt_id
from rlhf_rm.errors import UserError
from rlhf_rm.functional.meta import difference_objective
from rlhf_rm.methods.schedules import warmup_constant
from rlhf_rm.models.attention.sdpa import SDPAAttention
from rlhf_rm.models.reward import RewardModel
from rlhf_rm.strategies.deepspeed import DeepSpeedStrategy

ROOT = Path(__file__).parents[2]
SGD = {
    "optimizer": "SGD",
    "lr": 0.05,
    "gradient_clip": None,
    "schedule": partial(warmup_constant, warmup=0.0),
}
PACKINGS = [
    {"layout": "shared", "row_tokens": 70, "micro_tokens": 150},
    {"layout": "packed", "row_tokens": 999, "micro_tokens": 9999},
    {"layout": "padded", "row_tokens": 1, "micro_tokens": 1},
]


def reward(network, ids, weights=None):
    """One response by itself, by the network's own weights or by others."""
    state = dict(network.named_parameters()) if weights is None else weights
    batch = {"input_ids": torch.from_numpy(np.asarray(ids)).long()[None]}
    return functional_call(network, state, kwargs=batch | {"use_cache": False}).logits[0, -1]


def preference_loss(network, split, indices, weights=None):
    pairs = [split.trees[i].branches for i in indices]
    difference = [reward(network, a, weights) - reward(network, b, weights) for a, b in pairs]
    return torch.stack([-torch.nn.functional.logsigmoid(one) for one in difference]).mean()


def objective(network, shifted, indices, weights=None):
    """J, each response by itself, those that came twice twice."""
    total = 0.0
    for i in indices:
        branches = shifted.trees[i].branches
        which = shifted.branch[shifted.first[i] : shifted.first[i + 1]]
        rewards = [reward(network, branches[b], weights) for b in which]
        pairs = itertools.combinations(rewards, 2)
        total = total + 2 / len(which) ** 2 * sum(torch.sigmoid((a - b).abs()) for a, b in pairs)
    return total / len(indices)


def gradients(value, weights):
    found = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
    return {
        name: torch.zeros_like(w) if g is None else g
        for (name, w), g in zip(weights.items(), found, strict=True)
    }


class Deals(L.Callback):
    """Which examples and which prompts each step had."""

    def __init__(self):
        self.steps = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        pairs = [int(i) for part in batch.preferences for i in part.index_B]
        prompts = [int(i) for part in batch.responses for i in part.prompt_P]
        self.steps.append((pairs, prompts))


def double_model(tokenizer):
    """A GPT-2 that computes in float64 throughout; Llama's norms do not."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "gpt2",
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=256,
        num_labels=1,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        dtype=torch.float64,
    )
    network = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa")
    return RewardModel(network, SDPAAttention()).train()


@pytest.mark.parametrize("data", PACKINGS)
@pytest.mark.parametrize("kind", ["plain", "normalised"])
def test_a_step_is_that_of_a_slow_reference_in_double_precision(tiny, tmp_path, monkeypatch, data, kind):
    deals, eta, rho = Deals(), 0.5, 0.1
    monkeypatch.setattr(tiny, "make_model", double_model)
    file = tiny.write_responses(tmp_path / "responses.jsonl")
    meta = {"data": {"responses": file}, "ascent": {"kind": kind, "learning_rate": eta, "radius": rho}}
    trainer, module, watch = tiny.fit(
        tmp_path,
        meta=meta,
        module=SGD,
        data=data,
        also=[deals],
        max_epochs=None,
        max_steps=3,
        limit_val_batches=0,
        every_n_steps=99,
    )
    network = double_model(tiny.make_tokenizer()).network
    split, shifted = trainer.datamodule.split("train"), trainer.datamodule.shifted("train")
    objectives = []
    for (pairs, prompts), loss in zip(deals.steps, watch.losses, strict=True):
        assert len(pairs) == len(prompts) == 4
        weights = dict(network.named_parameters())
        value = objective(network, shifted, prompts)
        objectives.append(value.item())
        ascent = gradients(value, weights)
        norm = torch.cat([g.flatten() for g in ascent.values()]).norm()
        step = eta if kind == "plain" else rho / norm
        above = {name: (w + step * ascent[name]).detach().requires_grad_() for name, w in weights.items()}
        expected = preference_loss(network, split, pairs, above)
        assert loss == pytest.approx(expected.item(), abs=1e-6)
        descent = gradients(expected, above)
        with torch.no_grad():
            for name, weight in weights.items():
                decay = 0.01 if weight.ndim >= 2 else 0.0
                weight.sub_(0.05 * (descent[name] + decay * weight))
    for name, weight in network.named_parameters():
        ours = dict(module.model.network.named_parameters())[name]
        assert torch.allclose(ours, weight, atol=1e-7), name  # rewards are float32
    assert all(0.4 <= value < 0.8 for value in objectives)
    assert trainer.callback_metrics["train/ascent_objective"].item() == pytest.approx(
        objectives[-1], abs=1e-6
    )


def test_first_order_approaches_second_order_as_the_ascent_shrinks(tiny, tmp_path):
    network = tiny.make_model(tiny.make_tokenizer()).double().network
    settings = tiny.LOADING | tiny.META | {"responses": tiny.write_responses(tmp_path / "r.jsonl", 8)}
    data = MetaDataModule(tiny.Source(train=4), tiny.make_tokenizer(), **settings)
    split, shifted = data.split("train"), data.shifted("train")
    weights = dict(network.named_parameters())

    # The fused kernels of attention have no second derivative.
    @sdpa_kernel(SDPBackend.MATH)
    def apart(eta):
        value = objective(network, shifted, range(4))
        ascent = torch.autograd.grad(value, list(weights.values()), create_graph=True)
        above = {name: w + eta * g for (name, w), g in zip(weights.items(), ascent, strict=True)}
        second = gradients(preference_loss(network, split, range(4), above), weights)
        still = {name: w.detach().requires_grad_() for name, w in above.items()}
        first = gradients(preference_loss(network, split, range(4), still), still)
        return torch.cat([(first[name] - second[name]).flatten() for name in weights]).norm().item()

    far, near = apart(0.1), apart(0.01)
    assert far > 1e-4 and near == pytest.approx(far / 10, rel=0.3)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_objective_rises_and_the_weights_come_back_bit_by_bit(tiny, tmp_path, precision):
    seen = []

    class Look(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            def value():
                with torch.no_grad(), trainer.precision_plugin.forward_context():
                    total = 0.0
                    for part in batch.responses:
                        reward_N = module.model(part.rows)
                        one = difference_objective(reward_N[part.first_B], reward_N[part.second_B])
                        total += float((one * part.weight_B).sum())
                return total

            up, back = module.ascent.up, module.ascent.back

            def watched_up(parameters):
                before = value()
                norm = up(parameters)
                seen.append((before, value()))
                return norm

            module.ascent.up = watched_up
            self.weights = [p.detach().clone() for p in module.model.parameters()]

            def watched_back():
                told = back()
                same = zip(self.weights, module.model.parameters(), strict=True)
                seen.append(all(torch.equal(before, after) for before, after in same))
                return told

            module.ascent.back = watched_back

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            del module.ascent.up, module.ascent.back

    file = tiny.write_responses(tmp_path / "responses.jsonl")
    meta = {"data": {"responses": file}, "ascent": {"kind": "normalised", "radius": 0.3}}
    tiny.fit(tmp_path, meta=meta, also=[Look()], precision=precision, limit_val_batches=0)
    assert len(seen) == 12 and seen[1::2] == [True] * 6
    assert all(after > before for before, after in seen[::2]), seen


@pytest.mark.parametrize("contrastive", [None, {"kind": "simcse", "items": "pairs"}])
def test_every_pass_of_a_run_has_its_precision(tiny, tmp_path, monkeypatch, contrastive):
    attach, seen = SDPAAttention.attach, set()

    def watched(self, network, device, dtype):
        seen.add(dtype)
        return attach(self, network, device, dtype)

    monkeypatch.setattr(SDPAAttention, "attach", watched)
    file = tiny.write_responses(tmp_path / "responses.jsonl")
    meta = None if contrastive else {"data": {"responses": file}}
    trainer, module, _ = tiny.fit(
        tmp_path, meta=meta, contrastive=contrastive, precision="bf16-mixed", max_epochs=1
    )
    trainer.test(module, datamodule=trainer.datamodule, verbose=False)
    assert seen == {torch.bfloat16}


def test_a_loss_that_is_not_finite_leaves_the_weights_where_they_were(tiny, tmp_path):
    class Break(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            self.weights = [p.detach().clone() for p in module.model.parameters()]
            for part in batch.preferences:
                part.margin_B.fill_(float("nan"))

    broken = Break()
    file = tiny.write_responses(tmp_path / "responses.jsonl")
    made = {}

    class Keep(L.Callback):
        def setup(self, trainer, module, stage):
            made["module"] = module

    with pytest.raises(UserError, match="the loss became nan"):
        tiny.fit(tmp_path, meta={"data": {"responses": file}}, also=[Keep(), broken])
    for before, after in zip(broken.weights, made["module"].model.parameters(), strict=True):
        assert torch.equal(before, after)


def run_of(directory, ranks, contrastive=None):
    directory.mkdir()
    tokens = {"micro_tokens": 90 if ranks == 2 else 9999}
    return {
        "directory": str(directory),
        "source": {"train": 24},
        "data": {"batch_size": 4 // ranks, **tokens},
        "module": {"optimizer": "SGD", "lr": 0.002, "gradient_clip": None},
        "meta": {"data": {"responses": str(directory.parent / "responses.jsonl"), "prompts": 4 // ranks}},
        "contrastive": contrastive,
        "devices": ranks,
        "strategy": "ddp" if ranks == 2 else "auto",
        "every_n_steps": 99,
        "weighted": True,
    }


def test_two_ranks_equal_one_process_with_twice_the_batch(tiny, tmp_path):
    tiny.write_responses(tmp_path / "responses.jsonl")
    kinds = [None, {"kind": "swav", "items": "pairs"}]
    one = [run_of(tmp_path / f"one_{bool(kind)}", 1, kind) for kind in kinds]
    two = [run_of(tmp_path / f"two_{bool(kind)}", 2, kind) for kind in kinds]
    tiny.in_a_process(two)
    tiny.main([dict(run) for run in one])
    for single, double in zip(one, two, strict=True):
        tiny.assert_same_run(single["directory"], double["directory"], steps=6)


def test_every_prompt_comes_as_often_and_a_resumed_run_goes_on_there(tiny, tmp_path):
    file = tiny.write_responses(tmp_path / "responses.jsonl", 30)
    meta, deals, again = {"data": {"responses": file, "prompts": 3}}, Deals(), Deals()
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    trainer, whole, _ = tiny.fit(tmp_path / "a", meta=meta, also=[deals], max_epochs=3)
    count = len(trainer.datamodule.shifted("train"))
    dealt = [i for _, prompts in deals.steps for i in prompts]
    steps = count // 3
    assert len(set(dealt[: 3 * steps])) == 3 * steps
    middle = tmp_path / "a" / "step_00000008.ckpt"
    _, part, _ = tiny.fit(tmp_path / "b", meta=meta, also=[again], max_epochs=3, resume=str(middle))
    assert again.steps == deals.steps[8:]
    for ours, theirs in zip(part.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    (tmp_path / "c").mkdir()
    tiny.fit(tmp_path / "c", max_epochs=1)
    with pytest.raises(UserError, match="that of another method than meta"):
        tiny.fit(tmp_path / "b", meta=meta, max_epochs=3, resume=str(tmp_path / "c" / "step_00000004.ckpt"))
    other = {"data": {"responses": tiny.write_responses(tmp_path / "other.jsonl", 31), "prompts": 3}}
    with pytest.raises(UserError, match=r"made with other responses than those of .*other\.jsonl"):
        tiny.fit(tmp_path / "b", meta=other, max_epochs=3, resume=str(middle))


def test_a_response_that_came_twice_counts_twice_and_costs_once(tiny, tmp_path):
    path = tmp_path / "r.jsonl"
    rows = [{"prompt": f"{i} one two", "responses": ["yes", "no", "yes", "maybe", "yes"]} for i in range(12)]
    rows += [{"prompt": f"{i} three", "responses": ["same"] * 5} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(read_responses(path, "error")) == 15
    data = MetaDataModule(
        tiny.Source(), tiny.make_tokenizer(), **tiny.LOADING | tiny.META | {"responses": str(path), "k": None}
    )
    shifted = data.shifted("train")
    told = [data.shifted(name).report for name in ("train", "validation")]
    assert sum(one["prompts_all_equal"] for one in told) == 3
    (batch,) = shifted.step([0], data.packing)
    assert len(batch.rows.last_N) == 3 and len(batch.first_B) == 10
    assert (batch.first_B == batch.second_B).sum() == 3
    assert batch.weight_B.tolist() == pytest.approx([2 / 25] * 10)


def test_some_of_the_datas_own_training_prompts_are_held_out():
    prompts = [(Message("user", f"question {i}"),) for i in range(3000)]
    sides = {"validation_fraction": 0.1, "test_fraction": 0.1, "split_seed": 0}
    train = [one for one in prompts if assign_split(prompt_id(one), **sides) == "train"]
    held_out = split_prompts({prompt: ["a", "b"] for prompt in train}, 0.1)["validation"]
    assert 0.07 < len(held_out) / len(train) < 0.13


@pytest.mark.parametrize(
    "option", ["", "contrastive=swav_difference", "denoise=flip_margin", "loss=hinge", "lora"]
)
def test_it_goes_with_everything_through_the_command_line(rlhf_rm, small, tmp_path, world_strengths, option):
    told = [
        f"method=meta{'_contrastive' if 'contrastive' in option else ''}",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    told += ["adapter=lora"] if option == "lora" else [option] if option else []
    if "denoise" in option:
        told.append(f"denoise.strengths={world_strengths}")
    ended = rlhf_rm("train", *small, "trainer.log_every_n_steps=1", *told)
    assert ended.code == 0, ended.err
    names = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    wanted = {f"train/ascent_{name}" for name in ("objective", "norm", "length", "changed", "cosine")}
    assert wanted | {f"val/shifted_{name}" for name in ("objective", "spread", "accuracy_gold")} <= set(names)
    assert (tmp_path / "run" / "val_shifted.png").stat().st_size > 10_000
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["data"]["responses"]["train"]["prompts"] >= 2


@pytest.mark.parametrize(
    ("rows", "told", "says"),
    [
        (None, [], "No such file|does not exist|no such file"),
        ([["a"]] * 9, [], "9 of the 9 prompts of .* have a single response"),
        ([["a", "b"]] * 2, [], "prompts to climb on and .* held out, but a step takes 2"),
        ([["a", "b"]] * 30, ["meta.k=1"], r"meta\.k=1 must be a whole number of at least 2"),
        ([["a", "b"]] * 30, ["meta.held_out=0"], r"meta\.held_out=0 must be a number above 0 and below 1"),
        (
            [["a", "b"]] * 30,
            ["meta.ascent.kind=down"],
            r"meta\.ascent\.kind=down is unknown: use one of plain",
        ),
        (
            [["a", "b"]] * 30,
            ["method=reward"],
            r"meta\.responses is not read by this method: add method=meta",
        ),
        ([["a", 1]], [], r'line 1: "responses" must be a list of texts|:1: "responses" must be'),
    ],
)
def test_bad_input_ends_with_a_sentence(rlhf_rm, small, tmp_path, rows, told, says):
    path = tmp_path / "responses.jsonl"
    if rows is not None:
        made = [{"prompt": f"Question {i}?", "responses": some} for i, some in enumerate(rows)]
        path.write_text("".join(json.dumps(row) + "\n" for row in made))
    ended = rlhf_rm("train", *small, "method=meta", f"meta.responses={path}", *told)
    assert ended.code == 2 and re.search(says, ended.err), ended.err


def test_other_data_needs_responses(rlhf_rm, small, tmp_path):
    pairs = [{"prompt": f"p{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(60)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    told = [one for one in small if not one.startswith("data.")]
    ended = rlhf_rm("train", *told, "method=meta", "data=jsonl", f"data.path={tmp_path / 'pairs.jsonl'}")
    assert (
        ended.code == 2 and "add meta.responses=FILE, as `rlhf-rm sample run=POLICY k=5` writes" in ended.err
    )


def test_what_the_ascent_cannot_be_done_with_is_refused(tiny, tmp_path):
    file = tiny.write_responses(tmp_path / "responses.jsonl")
    module = tiny.make_meta(tiny.make_module(tiny.make_model(tiny.make_tokenizer())))
    with pytest.raises(UserError, match="use a MetaDataModule"):
        trainer = tiny.make_trainer(tmp_path)
        trainer.fit(module, datamodule=tiny.make_datamodule(tiny.Source(), tiny.make_tokenizer()))
    settings = tiny.LOADING | tiny.META | {"responses": file}
    datamodule = MetaDataModule(tiny.Source(), tiny.make_tokenizer(), **settings)
    zero = DeepSpeedStrategy(stage=2, timeout_seconds=60, settings={})
    for strategy, precision, says in (
        (zero, "32-true", "DeepSpeed keeps copies"),
        (None, "16-mixed", "16-mixed scales"),
    ):
        module._trainer = SimpleNamespace(datamodule=datamodule, strategy=strategy, precision=precision)
        with pytest.raises(UserError, match=says):
            module.on_fit_start()
