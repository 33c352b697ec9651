"""Reward models that others made: adapters of peft, and architectures that rows cannot be packed for."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForSequenceClassification

from rlhf_rm.data.packing import Packing, Tree
from rlhf_rm.data.template import set_template
from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.eager import EagerAttention
from rlhf_rm.models.attention.sdpa import SDPAAttention
from rlhf_rm.models.load import length_within, load_reward_model
from rlhf_rm.models.tokenizer import save_tokenizer, train_byte_bpe

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def made(directory, kind, **fields):
    """A classifier with a tokenizer, as a hub repository has it."""
    tokenizer = train_byte_bpe([], vocab_size=258)
    set_template(tokenizer, "hh")
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        **SIZES | fields,
        vocab_size=258,
        num_labels=1,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    network = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.2)
    network.save_pretrained(directory)
    save_tokenizer(tokenizer, directory)
    return network.eval()


def rewards(loaded, sequences):
    trees = [Tree((ids.numpy().astype("int32"),), 0, (2,)) for ids in sequences]
    packing = Packing(
        loaded.model.backbone.choose_layout("auto"), 64, 64, loaded.tokenizer.pad_token_id, row_multiple=1
    )
    found = torch.empty(len(trees))
    with torch.inference_mode():
        for rows, order in packing.pack(trees):
            found[order] = loaded.model(rows)
    return found


SEQUENCES = [torch.arange(3, 3 + length) for length in (9, 4, 17)]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("modernbert", {"cls_token_id": 2, "sep_token_id": 3, "local_attention": 8}),
        ("deberta-v2", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16}),
        ("mistral", {"sliding_window": 7, "num_key_value_heads": 2}),
    ],
)
def test_a_reward_is_the_one_of_plain_transformers(tmp_path, kind, fields):
    network = made(tmp_path / "model", kind, **fields)
    attention = EagerAttention() if kind == "deberta-v2" else SDPAAttention()
    ours = rewards(load_reward_model(str(tmp_path / "model"), attention, device="cpu"), SEQUENCES)
    with torch.inference_mode():
        theirs = torch.stack([network(input_ids=ids[None]).logits[0, 0] for ids in SEQUENCES])
    assert theirs.std() > 0.01
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_longest_sequence_is_one_with_learned_positions(tmp_path):
    made(tmp_path / "model", "roberta", max_position_embeddings=40)
    assert load_reward_model(str(tmp_path / "model"), SDPAAttention(), device="cpu").max_length == 39


def test_a_model_without_this_attention_says_what_to_take(tmp_path):
    made(tmp_path / "model", "deberta-v2")
    with pytest.raises(UserError, match=r"/model: it has no such attention: use attention=eager\.$"):
        load_reward_model(str(tmp_path / "model"), SDPAAttention(), device="cpu")


@pytest.fixture
def adapter(tmp_path):
    """An adapter that peft saved, with its head, beside a language model without one."""
    network = made(tmp_path / "base", "llama")
    config = LoraConfig(
        task_type="SEQ_CLS", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False
    )
    tuned = get_peft_model(network, config)
    with torch.no_grad():
        tuned.base_model.model.score.modules_to_save["default"].weight.normal_()
    tuned.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    tuned.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter", tuned.eval()


def test_an_adapter_of_others_is_merged_into_its_base_model(adapter):
    directory, tuned = adapter
    loaded = load_reward_model(str(directory), SDPAAttention(), device="cpu")
    with torch.inference_mode():
        theirs = torch.stack([tuned(input_ids=ids[None]).logits[0, 0] for ids in SEQUENCES])
    assert torch.allclose(rewards(loaded, SEQUENCES), theirs, atol=1e-5)
    assert loaded.directory == str(directory)
    assert not any("lora" in name for name in loaded.model.state_dict())


def test_an_adapter_of_another_task_is_refused(adapter):
    directory, _ = adapter
    file = directory / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"task_type": "CAUSAL_LM"}))
    with pytest.raises(UserError, match="no reward model's: its task_type is CAUSAL_LM"):
        load_reward_model(str(directory), SDPAAttention(), device="cpu")


def test_a_length_that_the_model_does_not_take_is_told(caplog):
    assert [length_within(asked, 512) for asked in (None, 100, 512)] == [512, 100, 512]
    assert not caplog.records
    assert length_within(4096, 512) == 512
    assert "max_length=4096 is more than the model takes: 512 tokens are read" in caplog.text
