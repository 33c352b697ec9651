"""Adapters over one backbone: members as they would be apart, and what they share only once."""

import pytest
import torch

from rlhf_rm.data.packing import Packing, Tree
from rlhf_rm.models.adapter import LoRA, layers_of
from rlhf_rm.models.lora_ensemble import LoRAEnsemble

SIZE = 3


def ensemble(make_model, shape, top_layers, dropout=0.0):
    """Members of the same backbone, with adapters and heads of their own that all say something."""

    def member(m):
        model = make_model(shape)
        LoRA(4, 8, dropout, None, top_layers, 1e-3).apply(model.network, train_head=True)
        torch.manual_seed(m)
        with torch.no_grad():
            for parameter in model.network.parameters():
                if parameter.requires_grad:
                    parameter.normal_(std=0.2)
        return model

    return LoRAEnsemble(member(m) for m in range(SIZE)), [member(m) for m in range(SIZE)]


def rows(model):
    generator = torch.Generator().manual_seed(0)
    trees = []
    for lengths in ((3, 4, 2), (5, 1, 6)):
        shared, *own = (torch.randint(3, 60, (n,), generator=generator).int().numpy() for n in lengths)
        trees.append(Tree(tuple([*shared, *one] for one in own), len(shared), (len(shared),) * 2))
    packing = Packing(model.backbone.layouts[0], 16, 999, 0, row_multiple=1)
    return [packed for packed, _ in packing.pack([as_arrays(tree) for tree in trees])]


def as_arrays(tree):
    branches = tuple(torch.tensor([int(i) for i in branch]).int().numpy() for branch in tree.branches)
    return Tree(branches, tree.shared, tree.prompt_tokens)


@pytest.mark.parametrize("shape", ["llama", "qwen3", "gpt2", "mistral", "gemma2", "bert", "roberta"])
@pytest.mark.parametrize("top_layers", [None, 1])
def test_members_score_and_learn_as_they_would_apart(make_model, shape, top_layers):
    together, apart = ensemble(make_model, shape, top_layers)
    assert together.has_trunk == (top_layers is not None)
    for number, some in enumerate(rows(apart[0])):
        scores_NM = together.scores(some)
        for m, model in enumerate(apart):
            model.zero_grad()
            alone_N = model(some)
            assert torch.allclose(scores_NM[:, m], alone_N, atol=1e-5)
            together.zero_grad()
            one_N = together.member(some, m, batch="a batch", part=number)
            assert torch.allclose(one_N, alone_N, atol=1e-5)
            alone_N.sin().sum().backward()
            one_N.sin().sum().backward()
            theirs = dict(model.named_parameters())
            for name, parameter in together.models[m].named_parameters():
                if parameter.requires_grad and theirs[name].grad is not None:
                    assert torch.allclose(parameter.grad, theirs[name].grad, atol=1e-4), name
            others = [p for o, other in enumerate(together.models) if o != m for p in other.parameters()]
            assert all(p.grad is None for p in others)


def test_what_is_frozen_is_there_once(make_model):
    together, apart = ensemble(make_model, "llama", None)
    trained = sum(p.numel() for p in apart[0].parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in apart[0].parameters() if not p.requires_grad)
    assert sum(p.numel() for p in together.parameters()) == frozen + SIZE * trained
    first, second, _ = together.models
    assert first.network.model.embed_tokens.weight is second.network.model.embed_tokens.weight
    assert first.network.score.weight is not second.network.score.weight


def test_the_trunk_runs_once_for_all_members_that_take_the_same_batch(make_model):
    together, apart = ensemble(make_model, "llama", 1)
    runs = []
    for model in together.models:
        first, last = layers_of(model.network)
        first.self_attn.register_forward_hook(lambda *call: runs.append("trunk"))
        last.self_attn.register_forward_hook(lambda *call: runs.append("above"))
    some = rows(apart[0])[0]
    for batch in ("a", "b"):
        for m in range(SIZE):
            together.member(some, m, batch=batch, part=0)
    assert (runs.count("trunk"), runs.count("above")) == (2, 2 * SIZE)
    runs.clear()
    together.scores(some)
    assert (runs.count("trunk"), runs.count("above")) == (1, SIZE)
    for batch in ("c", "d", "a"):
        together.member(some, 0, batch=batch, part=0)
    assert len(together._trunk) == SIZE, "no more than the last M batches are kept"


def test_the_trunk_has_no_dropout_and_the_layers_above_have(make_model):
    together, apart = ensemble(make_model, "llama", 1, dropout=0.5)
    some = rows(apart[0])[0]
    together.train()
    states = [together._run_trunk(some) for _ in range(2)]
    assert torch.equal(*states) and together.models[0].training
    first, second = (together.member(some, 0, batch="a", part=0) for _ in range(2))
    assert not torch.allclose(first, second)
