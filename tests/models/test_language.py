import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf_rm.data.sft import SFTDataModule
from rlhf_rm.models.attention.sdpa import SDPAAttention
from rlhf_rm.models.language import LanguageModel


@pytest.mark.parametrize("shape", ["llama", "gpt2"])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_the_loss_is_the_cross_entropy_of_each_response_alone(tiny, shape, layout):
    tokenizer = tiny.make_tokenizer()
    torch.manual_seed(0)
    sizes = {"llama": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}}.get(
        shape, {"n_embd": 16, "n_layer": 2, "n_head": 2}
    )
    config = AutoConfig.for_model(shape, **sizes, vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=1)
    network = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.3)
    model = LanguageModel(network, SDPAAttention()).eval()
    data = SFTDataModule(
        tiny.Source(),
        tokenizer,
        layout=layout,
        max_length=200,
        too_long="error",
        batch_size=5,
        eval_batch_size=5,
        row_tokens=100,
        micro_tokens=200,
        row_multiple=1,
        workers=0,
        seed=0,
    )
    total = sum(model(text).sum() for text in data.step("train", range(5)))
    expected = torch.zeros(())
    for tree in data.trees("train")[:5]:
        ids = torch.from_numpy(tree.branches[0]).long()
        logits = network(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        each = -logits.gather(1, ids[1:, None]).squeeze(1)
        expected += each[tree.prompt_tokens[0] - 1 :].sum()
    torch.testing.assert_close(total, expected, atol=1e-4, rtol=0)
    assert expected > 10
