import pytest
import torch
from transformers import AutoModelForSequenceClassification

from rlhf_rm.data.template import set_template
from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError
from rlhf_rm.models.adapter import LoRA, adapted_layers, merged_state
from rlhf_rm.models.export import export, plain_rewards
from rlhf_rm.models.tokenizer import train_byte_bpe
from tests.models.layouts import rewards

HEADS = {"llama": {"score.weight"}, "gpt2": {"score.weight"}}
HEADS["bert"] = {
    "classifier.weight",
    "classifier.bias",
    "bert.pooler.dense.weight",
    "bert.pooler.dense.bias",
}


def lora(**changes):
    settings = {
        "r": 4,
        "alpha": 8,
        "dropout": 0.0,
        "targets": None,
        "top_layers": None,
        "learning_rate": 1e-3,
    }
    return LoRA(**settings | changes)


@pytest.mark.parametrize("shape", HEADS)
def test_the_head_is_trained_whole_and_of_the_rest_only_the_adapters(make_model, shape):
    network = make_model(shape).network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    lora().apply(network, train_head=True)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert HEADS[shape] == {name for name in trained if "lora_" not in name}
    layers = {"llama": 7, "gpt2": 4, "bert": 6}[shape]
    assert len([name for name in trained if "lora_" in name]) == 2 * 2 * layers
    ids = torch.randint(3, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        network(input_ids=ids).logits.diff(dim=0).sum().backward()
        optimizer.step()
    after = {name.replace(".base_layer.", "."): value for name, value in network.state_dict().items()}
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == HEADS[shape] - {"classifier.bias"}  # a bias does not change differences
    merged = merged_state(network)
    assert merged.keys() == before.keys()
    assert sum(not torch.equal(merged[name], before[name]) for name in merged) == len(moved) + 2 * layers


@pytest.mark.parametrize("shape", ["llama", "gpt2", "bert", "roberta", "camembert"])
def test_what_is_trained_over_bfloat16_is_float32_and_merged_right(make_model, trees, shape):
    model = make_model(shape)
    model.network.to(torch.bfloat16)
    lora().apply(model.network, train_head=True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    assert model.network.base_model.dtype == torch.bfloat16
    assert sum(parameter.dtype == torch.bfloat16 for parameter in model.parameters()) > 10
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    for precision in (False, True):
        before = [parameter.detach().clone() for parameter in trained]
        with torch.autocast("cpu", torch.bfloat16, enabled=precision):
            rewards(model, trees, "padded").diff(dim=1).sum().backward()
        optimizer.step()
        moved = [(new != old).float().mean() for new, old in zip(trained, before, strict=True)]
        assert torch.stack(moved).median() > 0.9
    merged = merged_state(model.network)
    assert {value.dtype for value in merged.values()} == {torch.bfloat16}
    with torch.no_grad():
        found = rewards(model, trees, "padded")
        plain = make_model(shape)
        plain.network.to(torch.bfloat16).load_state_dict(merged)
        assert torch.allclose(found, rewards(plain, trees, "padded"), atol=0.1)


def test_a_language_model_keeps_its_head(make_model):
    network = make_model("llama").network
    lora().apply(network, train_head=False)
    assert not network.score.weight.requires_grad


def test_targets_choose_layers_by_the_end_of_their_names(make_model):
    network = make_model("llama").network
    lora(targets=["q_proj", "mlp.down_proj"]).apply(network, train_head=True)
    adapted = {name.split(".lora_")[0] for name, _ in network.named_parameters() if "lora_" in name}
    assert adapted == {
        f"model.layers.{i}.{end}" for i in (0, 1) for end in ("self_attn.q_proj", "mlp.down_proj")
    }
    with pytest.raises(
        UserError, match=r"names no linear layer of the backbone: use some of down_proj, gate"
    ):
        lora(targets=["proj"]).apply(make_model("llama").network, train_head=True)


@pytest.mark.parametrize("change", [{"r": 0}, {"dropout": 1.0}])
def test_settings_are_checked(make_model, change):
    with pytest.raises(UserError, match=r"must be at least 1 and adapter\.dropout"):
        lora(**change).apply(make_model("llama").network, train_head=True)


def test_the_export_is_merged_and_plain(make_model, tmp_path):
    tokenizer = train_byte_bpe([], vocab_size=258)
    set_template(tokenizer, "auto")
    model = make_model("llama")
    model.network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    lora(dropout=0.5).apply(model.network, train_head=True)
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    probes = [((Message("user", "how are you"),), text) for text in ("fine", "no no", "")]
    assert export(model, tokenizer, tmp_path / "export", max_length=128, probes=probes) < 1e-4
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "export").eval()
    assert not any("lora" in name for name in plain.state_dict())
    assert plain_rewards(plain, tokenizer, probes).std() > 0.01
    assert not list((tmp_path / "export").glob("adapter*"))


@pytest.mark.parametrize("adapter", ["lora", "qlora"])
def test_a_run_with_adapters_stores_little_and_resumes_bit_by_bit(rlhf_rm, small, tmp_path, adapter):
    # Steps as large as these, over weights of 16 bits, are seen in what is merged.
    wide = ["model.dtype=bfloat16", "optimizer.lr=0.01"] if adapter == "lora" else []
    settings = [*small, *wide, f"adapter={adapter}", "callbacks.checkpoint.every_n_steps=2"]
    whole, part = tmp_path / "whole", tmp_path / "part"
    ended = rlhf_rm("train", *settings, f"hydra.run.dir={whole}")
    assert ended.code == 0, ended.err
    first = whole / "checkpoints" / "step_00000002.ckpt"
    state = torch.load(first, weights_only=False)["state_dict"]
    assert all("lora_" in name or "score" in name for name in state)
    resumed = rlhf_rm("train", *settings, f"hydra.run.dir={part}", f"resume={first}")
    assert resumed.code == 0, resumed.err
    weights = "export/model.safetensors"
    assert (part / weights).read_bytes() == (whole / weights).read_bytes()
    again = rlhf_rm("export", f"run={whole}", f"output={tmp_path / 'out'}")
    assert again.code == 0, again.err
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (whole / weights).read_bytes()
    assert "scores within" in ended.out


def test_an_adapter_that_is_disabled_is_not_merged(make_model):
    network = make_model("llama").network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    lora().apply(network, train_head=True)
    layers = adapted_layers(network)
    for layer in layers.values():
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.4)
    some = list(layers)[:3]
    for name in some:
        layers[name].enable_adapters(False)
    merged = merged_state(network)
    moved = {name for name, value in before.items() if not torch.equal(merged[name], value)}
    assert moved == {f"{name}.weight" for name in layers if name not in some}
