"""Ensembles trained together, against members trained alone and through the command line."""

import json
import shutil

import lightning as L
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from rlhf_rm.data.batch import FeatureRows
from rlhf_rm.data.ensemble import EnsembleDataModule, MemberSampler, SharedBatchSampler
from rlhf_rm.data.sampling import StepSampler
from rlhf_rm.errors import UserError
from rlhf_rm.methods.ensemble import EnsembleRewardModule, _name_of
from rlhf_rm.models.adapter import LoRA, NoAdapter
from rlhf_rm.models.attention.eager import EagerAttention
from rlhf_rm.models.attention.sdpa import SDPAAttention
from rlhf_rm.models.ensemble import ensemble_model
from rlhf_rm.models.frozen import frozen_names
from rlhf_rm.models.full_ensemble import FullEnsemble
from rlhf_rm.models.head_ensemble import HeadEnsemble
from rlhf_rm.models.lora_ensemble import LoRAEnsemble
from rlhf_rm.models.spec import ModelSpec

SIZE = 3


def fit(tiny, module, datamodule, steps=5, **more):
    trainer = L.Trainer(
        max_epochs=9, max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False,
        limit_val_batches=0, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, **more,
    )  # fmt: skip
    trainer.fit(module, datamodule=datamodule)
    return module


def module_of(tiny, model, **changes):
    plain = tiny.make_module(model, **changes)
    settings = (plain.optimizer_factory, plain.scheduler_factory, plain.gradient_clip, plain.centring)
    return EnsembleRewardModule(model, plain.loss, *settings)


def spec_of(directory, adapter=NoAdapter(None)):  # noqa: B008
    return ModelSpec(
        path=str(directory), architecture=None, vocab_size=None, max_length=96, template="hh",
        dtype="float32", trust_remote_code=False, gradient_checkpointing=False, compile=False,
        adapter=adapter, learning_rate=None,
    )  # fmt: skip


@pytest.fixture
def heads(tiny):
    """Three heads over a frozen decoder, in which dropout would show."""

    def make(tokenizer):
        network = tiny.make_model(tokenizer, dropout=0.3).network
        network.config.id2label = {m: f"member_{m:02d}" for m in range(SIZE)}
        network.score = torch.nn.Linear(16, SIZE, bias=False)
        torch.manual_seed(1)
        torch.nn.init.normal_(network.score.weight)
        return HeadEnsemble(network, SDPAAttention()).train()

    return make


def test_whole_members_end_as_if_each_had_been_trained_alone(tiny):
    tokenizer = tiny.make_tokenizer()
    together = FullEnsemble([tiny.make_model(tokenizer) for _ in range(SIZE)])
    with torch.no_grad():
        for m, model in enumerate(together.models):
            model.network.score.weight.mul_(1 + m)
    alone = [tiny.make_model(tokenizer) for _ in range(SIZE)]
    for ours, theirs in zip(together.models, alone, strict=True):
        theirs.load_state_dict(ours.state_dict())
    data = EnsembleDataModule(tiny.Source(), tokenizer, size=SIZE, **tiny.LOADING)
    fit(tiny, module_of(tiny, together, gradient_clip=0.05), data)
    for m, model in enumerate(alone):
        order = tiny.make_datamodule(tiny.Source(), tokenizer, seed=tiny.LOADING["seed"] * 1000 + m)
        fit(tiny, tiny.make_module(model, gradient_clip=0.05), order)
        for ours, theirs in zip(together.models[m].parameters(), model.parameters(), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
    scores = [model.network.score.weight for model in together.models]
    assert not torch.allclose(scores[0], scores[1])


@pytest.mark.parametrize("top_layers", [None, 1])
def test_adapters_end_as_if_each_had_been_trained_alone(tiny, top_layers):
    tokenizer = tiny.make_tokenizer()

    def member(m):
        model = tiny.make_model(tokenizer)
        torch.manual_seed(m)
        LoRA(2, 4, 0.0, None, top_layers, 1e-3).apply(model.network, train_head=True)
        with torch.no_grad():
            model.network.score.weight.mul_(1 + m)
        return model

    together = LoRAEnsemble(member(m) for m in range(SIZE))
    runs = []
    together.models[0].network.model.layers[0].mlp.register_forward_hook(lambda *call: runs.append(1))
    data = EnsembleDataModule(tiny.Source(), tokenizer, size=SIZE, **tiny.LOADING)
    fit(tiny, module_of(tiny, together, gradient_clip=0.05), data, steps=6)
    split = data.split("train")
    apart = [StepSampler(split.sizes, batch_size=4, seed=3 * 1000 + m) for m in range(SIZE)]
    orders = list(MemberSampler(apart) if top_layers is None else SharedBatchSampler(apart[0], SIZE))
    for m, trained in enumerate(together.models):
        model = member(m)
        module = tiny.make_module(model, gradient_clip=0.05)
        optimizer = module.optimizer_factory([p for p in model.parameters() if p.requires_grad])
        schedule = module.scheduler_factory(optimizer, total_steps=6)
        for indices in orders:
            optimizer.zero_grad()
            for pairs in split.step(indices[m]):
                (module.pair_losses(*module(pairs), pairs).sum() / 4).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
            optimizer.step()
            schedule.step()
        for ours, theirs in zip(trained.parameters(), model.parameters(), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
    micro_batches = sum(len(split.step(indices[0])) for indices in orders)
    assert len(runs) == micro_batches


@pytest.mark.parametrize("kind", ["full", "head"])
def test_members_take_prompts_with_different_numbers_of_responses(rlhf_rm, small, tmp_path, kind):
    rows = [
        {"prompt": f"question {i}", "responses": [f"{j} of {i}" for j in range(k)], "ranking": list(range(k))}
        for i, k in enumerate([2, 3, 4] * 12)
    ]
    file = tmp_path / "ranked.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = [one for one in small if not one.startswith(("data", "base"))]
    told += ["data=jsonl", f"data.path={file}", "data.validation_fraction=0.2", "data.test_fraction=0.2"]
    told += ["method=ensemble", "members.size=2", f"members.kind={kind}", f"hydra.run.dir={tmp_path}/run"]
    ended = rlhf_rm("train", *told)
    assert ended.code == 0, ended.err


@pytest.mark.parametrize("kind", ["full", "lora", "head"])
def test_over_a_reward_model_each_member_has_a_head_of_its_own(tiny, tmp_path, kind):
    tokenizer = tiny.make_tokenizer()
    trained = tiny.make_model(tokenizer).network
    trained.save_pretrained(tmp_path), tokenizer.save_pretrained(tmp_path)
    adapter = LoRA(2, 4, 0.0, None, None, None) if kind == "lora" else NoAdapter(None)
    model = ensemble_model(
        spec_of(tmp_path, adapter), tokenizer, SDPAAttention(), kind=kind, size=SIZE, seed=1
    )
    heads = [row for m in (model.models if kind != "head" else [model]) for row in m.network.score.weight]
    known = [*heads, trained.score.weight[0]]
    assert len(heads) == SIZE and len({tuple(row.tolist()) for row in known}) == SIZE + 1
    layer = (model.models[1] if kind != "head" else model).network.model.layers[0].mlp.down_proj
    assert torch.equal(
        getattr(layer, "base_layer", layer).weight, trained.model.layers[0].mlp.down_proj.weight
    )


def test_only_a_head_may_give_way(tiny, tmp_path):
    tokenizer = tiny.make_tokenizer()
    tiny.make_model(tokenizer).network.save_pretrained(tmp_path), tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
    with pytest.raises(
        UserError, match=r"6 weights have other sizes than its config.json says, such as .*mlp"
    ):
        ensemble_model(spec_of(tmp_path), tokenizer, SDPAAttention(), kind="head", size=SIZE, seed=1)


def test_heads_are_drawn_anew_for_networks_that_name_their_scale_otherwise(tiny, tmp_path):
    tokenizer = tiny.make_tokenizer()
    sizes = {"hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "opt", **sizes, word_embed_proj_dim=16, vocab_size=len(tokenizer), num_labels=1, pad_token_id=0
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    model = ensemble_model(spec_of(tmp_path), tokenizer, EagerAttention(), kind="full", size=2, seed=1)
    one, other = (member.network.score.weight for member in model.models)
    assert not torch.equal(one, other) and 0.01 < one.std() < 0.04


def test_members_that_share_batches_see_all_of_them_in_orders_of_their_own():
    done = 0
    batches = StepSampler([5] * 47, batch_size=4, seed=1, steps_done=lambda: done)
    sampler = SharedBatchSampler(batches, SIZE)
    steps = list(sampler)
    assert len(steps) == len(sampler) == 11
    for at in range(0, 11, SIZE):  # within a window all members take the same batches
        taken = [sorted(step[m] for step in steps[at : at + SIZE]) for m in range(SIZE)]
        assert taken[0] == taken[1] == taken[2]
    whole = [sorted(i for step in steps for i in step[m]) for m in range(SIZE)]
    assert all(len(set(items)) == 44 for items in whole)
    assert len({str([step[m] for step in steps]) for m in range(SIZE)}) == SIZE
    done = 4
    assert list(sampler) == steps[4:]
    done = 11
    assert list(sampler) != steps


def test_heads_are_trained_on_features_as_on_tokens(tiny, heads, tmp_path):
    tokenizer = tiny.make_tokenizer()
    model = heads(tokenizer)
    frozen = {name: value.clone() for name, value in model.state_dict().items()}
    alone = heads(tokenizer).eval()
    settings = tiny.LOADING | {"cache_dir": tmp_path}
    data = EnsembleDataModule(tiny.Source(), tokenizer, size=SIZE, **settings)
    fit(tiny, module_of(tiny, model, gradient_clip=None, optimizer="SGD", lr=0.1), data)
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, frozen[name])]
    assert moved == ["network.score.weight"]
    # The same by hand, with the tokens: each member on its own order, in evaluation mode.
    optimizer = torch.optim.SGD([alone.network.score.weight], lr=0.1, weight_decay=0.01)
    plain = tiny.make_module(alone, optimizer="SGD", lr=0.1)
    schedule = plain.scheduler_factory(optimizer, total_steps=5)
    split = data.split("train")
    for step in range(5):
        optimizer.zero_grad()
        for m in range(SIZE):
            order = np.random.default_rng([3 * 1000 + m, 0]).permutation(24)[4 * step : 4 * step + 4]
            for pairs in split.step(order.tolist()):
                reward_N = alone.scores(pairs.rows)[:, m]
                difference = reward_N[pairs.chosen_B] - reward_N[pairs.rejected_B]
                (-torch.nn.functional.logsigmoid(difference).sum() / 4).backward()
        optimizer.step()
        schedule.step()
    assert torch.allclose(model.network.score.weight, alone.network.score.weight, atol=1e-5)
    assert len(list((tmp_path / "encoded").glob("features_*/features.npy"))) == 1


def test_features_have_the_precision_of_the_training(tiny, heads, tmp_path, monkeypatch):
    attach, seen = SDPAAttention.attach, []

    def watched(self, network, device, dtype):
        seen.append(dtype)
        return attach(self, network, device, dtype)

    monkeypatch.setattr(SDPAAttention, "attach", watched)
    tokenizer = tiny.make_tokenizer()
    for precision, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        seen.clear()
        loading = tiny.LOADING | {"cache_dir": tmp_path}
        data = EnsembleDataModule(tiny.Source(), tokenizer, size=SIZE, **loading)
        fit(tiny, module_of(tiny, heads(tokenizer)), data, steps=1, precision=precision)
        assert seen and set(seen) == {dtype}  # the second does not take the features of the first


def test_rewards_of_features_are_not_rounded_in_mixed_precision(tiny, heads):
    model = heads(tiny.make_tokenizer())
    rows = FeatureRows(torch.randn(40, 16), torch.ones(40, dtype=torch.int64), 40)
    exact_N = rows.feature_ND @ model.network.score.weight[1]
    with torch.autocast("cpu", torch.bfloat16):
        reward_N = model.member(rows, 1, batch=(), part=0)
    assert torch.allclose(reward_N, exact_N, atol=1e-5) and not torch.equal(
        exact_N, exact_N.bfloat16().float()
    )


def test_features_of_another_architecture_are_not_taken(tiny, heads):
    model, names = heads(tiny.make_tokenizer()), set()
    for change in ({}, {"rms_norm_eps": 1e-3}, {"hidden_act": "gelu"}):
        for name, value in change.items():
            setattr(model.network.config, name, value)
        names.add(_name_of(model))
    assert len(names) == 3


def test_a_loss_scaler_meets_what_overflows_before_anybody_refuses_it(tiny):
    tokenizer = tiny.make_tokenizer()
    together = FullEnsemble([tiny.make_model(tokenizer) for _ in range(SIZE)])
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**100)
    data = EnsembleDataModule(tiny.Source(), tokenizer, size=SIZE, **tiny.LOADING)
    plugins = [MixedPrecision("16-mixed", "cpu", scaler)]
    fit(tiny, module_of(tiny, together, gradient_clip=None), data, plugins=plugins)
    assert scaler.get_scale() < 2.0**100


def test_a_members_gradient_that_is_no_number_ends_the_training_without_a_limit_too(tiny):
    tokenizer = tiny.make_tokenizer()
    together = FullEnsemble([tiny.make_model(tokenizer) for _ in range(SIZE)])
    weight = next(together.models[1].parameters())
    weight.register_hook(lambda gradient: gradient * torch.nan)
    before = weight.detach().clone()
    data = EnsembleDataModule(tiny.Source(), tokenizer, size=SIZE, **tiny.LOADING)
    with pytest.raises(UserError, match="norm of the gradient became nan at step 1"):
        fit(tiny, module_of(tiny, together, gradient_clip=None), data)
    assert torch.equal(weight, before)


def test_features_are_computed_once(tiny, heads, tmp_path, monkeypatch):
    tokenizer = tiny.make_tokenizer()
    calls = []
    real = HeadEnsemble.features
    monkeypatch.setattr(HeadEnsemble, "features", lambda self, rows: calls.append(1) or real(self, rows))
    for expected in (True, False):
        calls.clear()
        data = EnsembleDataModule(
            tiny.Source(), tokenizer, size=SIZE, **tiny.LOADING | {"cache_dir": tmp_path}
        )
        fit(tiny, module_of(tiny, heads(tokenizer)), data, steps=8)
        assert bool(calls) == expected
    other = heads(tokenizer)
    with torch.no_grad():
        other.network.model.embed_tokens.weight.mul_(1.1)
    fit(tiny, module_of(tiny, other), data)
    assert calls, "features of another backbone are its own"


def test_a_checkpoint_holds_nothing_that_is_frozen(tiny):
    models = [tiny.make_model(tiny.make_tokenizer()) for _ in range(2)]
    for model in models:
        LoRA(2, 4, 0.0, None, None, 1e-3).apply(model.network, train_head=True)
    names = module_of(tiny, LoRAEnsemble(models)).trained_state()
    assert {name.split(".")[2] for name in names} == {"0", "1"}, list(names)
    assert all("lora_" in name or "score" in name for name in names), list(names)


def test_orders_differ_between_members(tiny):
    data = EnsembleDataModule(tiny.Source(), tiny.make_tokenizer(), size=SIZE, **tiny.LOADING)
    data.trainer = L.Trainer(accelerator="cpu", logger=False, use_distributed_sampler=False)
    steps = list(data.train_dataloader())
    assert len(steps) == 6 and all(len(step.members) == SIZE for step in steps)
    seen = [
        sorted(i for step in steps for pairs in step.members[m] for i in pairs.index_B.tolist())
        for m in range(3)
    ]
    assert seen == [list(range(24))] * 3
    first = [sorted(i for pairs in steps[0].members[m] for i in pairs.index_B.tolist()) for m in range(3)]
    assert first[0] != first[1] != first[2]


LORA = ["members.kind=lora", "adapter=lora", "model.architecture.num_hidden_layers=2"]


@pytest.mark.parametrize("kind", ["full", "head", "lora", "lora top"])
def test_a_run_is_a_vote(rlhf_rm, small, tmp_path, kind):
    run = tmp_path / "run"
    kinds = {"lora": LORA, "lora top": [*LORA, "adapter.top_layers=1"]}
    told = ["method=ensemble", "members.size=3", f"hydra.run.dir={run}"]
    ended = rlhf_rm("train", *small, *told, *kinds.get(kind, [f"members.kind={kind}"]))
    assert ended.code == 0, ended.err
    assert json.loads((run / "metrics.json").read_text())["members"] == 3
    ended = rlhf_rm("vote", f"members={run}", f"hydra.run.dir={tmp_path}/vote")
    assert ended.code == 0, ended.err
    table = pq.read_table(tmp_path / "vote/strengths.parquet").to_pydict()
    members = np.array([table[f"member_0{m}"] for m in range(3)])
    assert members.std(0).min() > 0 and np.allclose(members.mean(0), table["mean"])
    assert ended.out.count("pairs of train scored") == (1 if kind == "head" else 3)
    assert len(json.loads((tmp_path / "vote/manifest.json").read_text())["members"]) == 3
    scored = rlhf_rm("evaluate", f"run={run}", f"hydra.run.dir={tmp_path}/evaluation")
    assert (scored.code, "is an ensemble of whole models" in scored.err) == (
        (0, False) if kind == "head" else (2, True)
    )


def test_an_export_that_was_cut_short_has_no_members(rlhf_rm, small, tmp_path, monkeypatch):
    from rlhf_rm.commands import export

    told = [*small, "method=ensemble", "members.size=2", f"hydra.run.dir={tmp_path}/run"]
    assert rlhf_rm("train", *told).code == 0
    shutil.rmtree(tmp_path / "run/export")

    def cut_short(model, tokenizer, directory, **settings):
        if directory.name == "member_01":
            raise UserError("the disk is full")
        return whole(model, tokenizer, directory, **settings)

    whole = export.export
    monkeypatch.setattr(export, "export", cut_short)
    ended = rlhf_rm("export", f"run={tmp_path}/run", f"output={tmp_path}/run/export")
    assert ended.code == 2 and "the disk is full" in ended.err
    assert not list((tmp_path / "run").glob("**/member_0*"))
    monkeypatch.undo()
    assert rlhf_rm("export", f"run={tmp_path}/run", f"output={tmp_path}/run/export").code == 0
    for members in ("run", "run/export"):
        ended = rlhf_rm("vote", f"members={tmp_path}/{members}", f"hydra.run.dir={tmp_path}/vote")
        assert ended.code == 0, ended.err
    assert ended.out.count("pairs of train scored") == 0


def test_frozen_weights_that_lay_in_shards_are_not_compared(tiny, heads):
    module = module_of(tiny, heads(tiny.make_tokenizer()))
    checkpoint = {}
    known = frozen_names(module)
    assert len(known) > 5 and not any("score" in name for name in known)
    first, *others = known
    for kept in ({}, {name: known[name] for name in others} | {"of another strategy": "x"}):
        module.on_load_checkpoint(checkpoint | {"frozen": kept})
    with pytest.raises(UserError, match="over other frozen weights"):
        module.on_load_checkpoint({"frozen": {first: "other"}})


def test_heads_do_not_go_on_over_another_backbone(rlhf_rm, small, tmp_path):
    told = [*small, "method=ensemble", "members.kind=head", "members.size=2", "resume=auto"]
    told += [f"hydra.run.dir={tmp_path}"]
    assert rlhf_rm("train", *told, "base.settings.steps=2", "trainer.max_steps=2").code == 0
    shutil.rmtree(tmp_path / "export")
    ended = rlhf_rm("train", *told, "base.settings.steps=3", "trainer.max_steps=3")
    assert ended.code == 2 and "was made over other frozen weights than these" in ended.err, ended.err
    ended = rlhf_rm("train", *told, "base.settings.steps=2", "trainer.max_steps=3")
    assert ended.code == 0, ended.err


def test_an_ensembles_score_has_a_deviation(rlhf_rm, small, tmp_path):
    told = ["method=ensemble", "members.kind=head", "members.size=3", f"hydra.run.dir={tmp_path}/run"]
    assert rlhf_rm("train", *small, *told).code == 0
    texts = ["a", "b b", ""]
    rows = [{"prompt": "q", "response": text} for text in texts]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [f"input={tmp_path}/in.jsonl", f"output={tmp_path}/out.jsonl"]
    assert rlhf_rm("score", f"run={tmp_path}/run", *files).code == 0
    scored = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    network = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run/export")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run/export")
    for row, one in zip(rows, scored, strict=True):
        dialogue = [{"role": "user", "content": "q"}, {"role": "assistant", "content": row["response"]}]
        ids = tokenizer.apply_chat_template(dialogue, return_tensors="pt", return_dict=True)
        logits = network(**{key: ids[key] for key in ("input_ids", "attention_mask")}).logits[0].detach()
        assert one["reward"] == pytest.approx(float(logits.mean()), abs=1e-5)
        assert one["reward_std"] == pytest.approx(float(logits.std(correction=0)), abs=1e-5)


@pytest.mark.parametrize("kind", [["members.kind=head"], [*LORA, "adapter.top_layers=1"]])
def test_an_ensemble_resumes_bit_by_bit(rlhf_rm, small, tmp_path, kind):
    told = [*small, "method=ensemble", "members.size=2", "callbacks.checkpoint.every_n_steps=1", *kind]
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert rlhf_rm("train", *told, f"hydra.run.dir={whole}").code == 0
    first = whole / "checkpoints/step_00000003.ckpt"
    ended = rlhf_rm("train", *told, f"hydra.run.dir={part}", f"resume={first}")
    assert ended.code == 0, ended.err
    weights = sorted(path.relative_to(whole) for path in whole.glob("export/**/model.safetensors"))
    assert len(weights) == (1 if kind == ["members.kind=head"] else 2)
    for file in weights:
        assert (part / file).read_bytes() == (whole / file).read_bytes()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["members.size=1"], "members.size=1: a vote takes at least 2 members"),
        (["members.kind=half"], "members.kind=half is unknown: use one of full, lora, head"),
        (["members.kind=lora"], "trains adapters: say which, adapter=lora or adapter=qlora"),
        (
            [*LORA, "adapter.top_layers=3"],
            "adapter.top_layers=3 must be from 1 to 2, the layers of this model",
        ),
        ([*LORA, "model.compile=true"], "leave model.compile=false"),
        (["members.kind=head", "adapter=lora"], "trains heads alone: leave the adapter out"),
        (["strategy=ddp"], "method=ensemble trains on one device: use strategy=auto trainer.devices=1"),
    ],
)
def test_bad_input_is_one_sentence(rlhf_rm, small, overrides, message):
    ended = rlhf_rm("train", *small, "method=ensemble", *overrides)
    assert ended.code == 2 and message in ended.err and ended.err.count("\n") == 1
