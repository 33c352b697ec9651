"""FlexAttention is the same attention; on a CPU it can be had forward alone."""

import pytest
import torch

from rlhf_rm.errors import UserError
from rlhf_rm.models.attention.base import visible
from rlhf_rm.models.attention.flex import FlexAttention
from tests.models.attention.test_base import rows
from tests.models.layouts import alone, rewards


@pytest.mark.parametrize("options", [{"causal": True}, {"causal": False}, {"causal": True, "window": 2}])
def test_its_mask_lets_through_what_is_visible(options):
    record = rows()
    with torch.no_grad():
        block = FlexAttention().mask(record, **options)
    dense = torch.tensor(
        [
            [
                bool(block.mask_mod(torch.tensor(0), torch.tensor(0), torch.tensor(q), torch.tensor(k)))
                for k in range(10)
            ]
            for q in range(10)
        ]
    )
    assert torch.equal(dense, visible(record, **options)[0])


# mistral has a window, gemma2 soft-caps its scores and has windows in every other layer.
@pytest.mark.parametrize("shape", ["llama", "mistral", "gemma2"])
def test_rewards_are_those_of_each_response_alone(make_model, trees, shape):
    model = make_model(shape, FlexAttention())
    with torch.no_grad():
        expected = alone(make_model(shape), trees)
        torch.testing.assert_close(rewards(model, trees, "shared", 120, 240), expected, atol=1e-5, rtol=0)


def test_under_autocast_everything_comes_in_one_dtype(make_model, trees):
    model = make_model("llama", FlexAttention())
    with torch.no_grad():
        expected = rewards(model, trees, "shared", 120, 240)
        with torch.autocast("cpu", torch.bfloat16):
            got = rewards(model, trees, "shared", 120, 240)
    torch.testing.assert_close(got, expected, atol=0.15, rtol=0.05)


def test_training_on_a_cpu_is_refused(make_model, trees):
    with pytest.raises(UserError, match=r"attention=flex has no backward pass on a CPU: use attention=auto"):
        rewards(make_model("llama", FlexAttention()), trees, "shared")
