import logging

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf_rm.data.packing import Packing
from rlhf_rm.data.rollouts import Rollouts
from rlhf_rm.data.sft import SFTDataModule
from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.eager import EagerAttention
from rlhf_rm.models.language import LanguageModel
from tests.models.conftest import SHAPES

# What these architectures do to the logits of their heads is to be far from nothing.
DOES = {
    "gemma2": {"final_logit_softcapping": 3.0},
    "granite": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.25},
}


@pytest.fixture
def make_network(tiny):
    """A tiny causal language model whose logits are some units apart, of the tokens of ``tiny``."""

    def make(shape, dtype=torch.float32):
        torch.manual_seed(0)
        tokens = {"vocab_size": len(tiny.make_tokenizer()), "pad_token_id": 0, "eos_token_id": 1}
        sizes = SHAPES.get(shape, SHAPES["llama"]) | DOES.get(shape, {})
        config = AutoConfig.for_model(shape, **sizes, **tokens, bos_token_id=None)
        network = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim == 2:
                    parameter.normal_(std=0.3)
        return network.to(dtype).eval()

    return make


@pytest.mark.parametrize("shape", ["llama", "gpt2", *DOES])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_the_loss_is_the_cross_entropy_of_each_response_alone(tiny, make_network, shape, layout):
    network = make_network(shape)
    model = LanguageModel(network, EagerAttention())
    data = SFTDataModule(
        tiny.Source(),
        tiny.make_tokenizer(),
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


@pytest.mark.parametrize("shape", ["llama", *DOES])
def test_log_probabilities_and_entropies_are_those_of_the_networks_own_logits(make_network, shape):
    network = make_network(shape)
    model = LanguageModel(network, EagerAttention())
    prompt, response = [5, 6, 7], [9, 10, 11, 12]
    rollouts = Rollouts.of([prompt], [response], [0], torch.zeros(1))
    (batch,) = rollouts.batches(Packing(model.backbone.choose_layout("auto"), 64, 64, 0, row_multiple=1))
    found = model.token_log_probs(batch.rows, batch.predictor_L, batch.label_L, temperature=0.7)
    logits = network(input_ids=torch.tensor([prompt + response])).logits[0, 2:-1] / 0.7
    expected = torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(found.log_prob_L, expected.log_prob(torch.tensor(response)))
    torch.testing.assert_close(found.entropy_L, expected.entropy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", ["llama", *DOES])
def test_a_network_is_compared_with_its_own_logits_and_left_as_it_was(make_network, shape, dtype):
    network = make_network(shape, dtype).train()
    network.model.layers[0].eval()
    modes, state = [module.training for module in network.modules()], torch.get_rng_state()
    LanguageModel(network, EagerAttention())
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_that_does_something_else_to_its_logits_is_refused(make_network, dtype):
    network = make_network("llama", dtype)
    own = network.forward

    def forward(*args, **kwargs):
        said = own(*args, **kwargs)
        said.logits = said.logits * 0.9
        return said

    network.forward = forward
    with pytest.raises(UserError, match="the logits of a llama model are not those of its head, scaled"):
        LanguageModel(network, EagerAttention())


def test_a_network_that_does_not_run_where_it_was_loaded_is_said_to_be_unchecked(make_network, caplog):
    network = make_network("llama")
    network.model.forward = lambda **inputs: torch.zeros(2) @ torch.zeros(3)
    with caplog.at_level(logging.WARNING):
        LanguageModel(network, EagerAttention())
    assert "a llama model does more to its logits than is known could not be checked on cpu" in caplog.text
