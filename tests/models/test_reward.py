"""A reward is the same alone, in any batch, padded left or right, packed, and packed with a shared prefix."""

from dataclasses import replace

import pytest
import torch

from rlhf_rm.data.batch import Rows
from rlhf_rm.data.packing import Packing
from rlhf_rm.errors import UserError
from rlhf_rm.models.reward import RewardModel
from tests.models.layouts import alone, rewards

PACKABLE = ["llama", "qwen3", "gpt2", "mistral", "gemma2", "bert", "roberta"]
PADDED = ["distilbert", "camembert", "mpnet", "electra", "bloom", "gpt_neo", "openai-gpt"]
TWO_KINDS = ["ministral", "exaone4", "gpt_oss", "qwen2_moe"]  # of layers, each with its mask
DECODERS = ["llama", "qwen3", "gpt2", "mistral", "gemma2"]


def left_padded(rows: Rows) -> Rows:
    """The same padded batch with its padding on the other side."""
    width = rows.input_ids_RT.shape[1]
    length = (rows.tree_RT >= 0).sum(1, keepdim=True)
    turn = (torch.arange(width) - (width - length)) % width
    return replace(
        rows,
        **{
            f: getattr(rows, f).gather(1, turn)
            for f in ("input_ids_RT", "position_ids_RT", "tree_RT", "branch_RT")
        },
        first_N=torch.arange(len(length)) * width + (width - length[:, 0]),
        last_N=torch.arange(len(length)) * width + width - 1,
    )


@pytest.mark.parametrize("shape", [*PACKABLE, *TWO_KINDS, *PADDED])
def test_every_layout_gives_the_reward_of_the_response_alone(make_model, trees, shape):
    model = make_model(shape)
    with torch.no_grad():
        expected = alone(model, trees)
        assert (model.backbone.layouts[0] == "padded") == (shape in PADDED)
        assert expected.std() > 0.05  # rewards that a wrong mask would change
        for layout in model.backbone.layouts:
            for row_tokens, micro_tokens in [(1, 1), (90, 200), (500, 500)]:
                got = rewards(model, trees, layout, row_tokens, micro_tokens)
                torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", ["llama", "qwen3", "bert"])
def test_padding_left_and_pad_equal_to_eos_change_nothing(make_model, trees, shape):
    model = make_model(shape)
    packing = Packing("padded", 1, 400, pad_id=1, row_multiple=1)
    with torch.no_grad():
        expected = alone(model, trees)
        for rows, order in packing.pack(trees):
            torch.testing.assert_close(model(rows).view(-1, 2), expected[order], atol=1e-5, rtol=0)
            torch.testing.assert_close(
                model(left_padded(rows)).view(-1, 2), expected[order], atol=1e-5, rtol=0
            )
        for layout in model.backbone.layouts:
            torch.testing.assert_close(rewards(model, trees, layout, pad_id=1), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", ["llama", "qwen3", "bert", "gemma2"])
def test_gradients_are_those_of_responses_alone(make_model, trees, shape):
    model = make_model(shape)
    parameters = list(model.parameters())

    def gradients(reward_B2: torch.Tensor) -> list[torch.Tensor]:
        loss = -torch.nn.functional.logsigmoid(reward_B2[:, 0] - reward_B2[:, 1]).mean()
        return list(torch.autograd.grad(loss, parameters, allow_unused=True))

    expected = gradients(alone(model, trees))
    for layout in model.backbone.layouts:
        for got, want in zip(gradients(rewards(model, trees, layout)), expected, strict=True):
            torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_the_fastest_layout_is_chosen_and_impossible_ones_are_refused(make_model):
    assert make_model("llama").backbone.choose_layout("auto") == "shared"
    assert make_model("bert").backbone.choose_layout("auto") == "packed"
    assert make_model("distilbert").backbone.choose_layout("auto") == "padded"
    with pytest.raises(UserError, match=r"layout=shared is not possible with a bert model.*both directions"):
        make_model("bert").backbone.choose_layout("shared")
    assert make_model("gpt_neo").backbone.choose_layout("auto") == "padded"
    with pytest.raises(UserError, match=r"layout=shared is not possible with a openai-gpt .*by columns"):
        make_model("openai-gpt").backbone.choose_layout("shared")
    with pytest.raises(UserError, match=r"layout=packed is not possible with a bloom model.*positions"):
        make_model("bloom").backbone.choose_layout("packed")


def test_layers_that_are_no_attention_are_refused(make_model):
    model = make_model("llama")
    model.network.config.layer_types = ["full_attention", "chunked_attention"]
    with pytest.raises(UserError, match="chunked_attention layers would mix neighbours"):
        model.backbone.choose_layout("shared")


def test_a_model_whose_rewards_depend_on_the_batch_is_refused(make_model):
    with pytest.raises(UserError, match=r"doge model with keep_window_size=8 chooses .* is at most 8\."):
        make_model("doge")


def test_a_model_with_two_labels_is_refused(make_model):
    network = make_model("llama").network
    network.config.num_labels = 2
    with pytest.raises(UserError, match="has 2 labels"):
        RewardModel(network, make_model("llama").backbone.attention)


@pytest.mark.parametrize("shape", ["llama", "bert", "roberta"])
def test_autocast_leaves_rewards_in_full_precision(make_model, trees, shape):
    model = make_model(shape)
    exact = rewards(model, trees, "packed")
    with torch.autocast("cpu", torch.bfloat16):
        rounded = rewards(model, trees, "packed")
    assert rounded.dtype == torch.float32 and torch.allclose(exact, rounded, atol=0.2, rtol=0.2)
    assert (rounded != rounded.bfloat16().float()).any(), "near rewards would be ties"
