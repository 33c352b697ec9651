"""The step up and the way back: lengths, exactness, what it measures, and shards."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlhf_rm.errors import UserError
from rlhf_rm.methods.ascent import Ascent

ROOT = Path(__file__).parents[2]


def network(dtype=torch.float32):
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).to(dtype)


def with_gradient(dtype=torch.float32, scale=1.0):
    made = network(dtype)
    (made(torch.ones(2, 3, dtype=dtype)).square().sum() * scale).backward()
    return made, list(made.parameters())


def flat(tensors):
    return torch.cat([one.detach().flatten().double() for one in tensors])


def test_plain_is_eta_times_the_gradient_and_normalised_has_one_length():
    _, parameters = with_gradient()
    before, gradient = flat(parameters), flat([p.grad for p in parameters])
    plain = Ascent("plain", 0.25, 1.0)
    assert plain.up(parameters).item() == pytest.approx(gradient.norm().item(), rel=1e-6)
    assert torch.allclose(flat(parameters), before + 0.25 * gradient, atol=1e-7)
    assert plain.back()["ascent_length"].item() == pytest.approx(0.25 * gradient.norm().item(), rel=1e-5)
    for scale in (1e-4, 1e4):
        _, parameters = with_gradient(scale=scale)
        normalised = Ascent("normalised", 1.0, 0.03)
        normalised.up(parameters)
        assert torch.allclose(flat(parameters), before + 0.03 * gradient / gradient.norm(), atol=1e-6)
        assert normalised.back()["ascent_length"].item() == pytest.approx(0.03, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["plain", "normalised"])
def test_the_weights_come_back_bit_by_bit(dtype, kind):
    _, parameters = with_gradient(dtype)
    before = [p.detach().clone() for p in parameters]
    ascent = Ascent(kind, 0.1, 0.7)
    ascent.up(parameters)
    assert not all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))
    ascent.back()
    assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))
    copied = ascent._copies[parameters[0]]
    ascent.up(parameters)
    assert ascent._copies[parameters[0]] is copied  # one copy, whose memory is kept


def test_after_a_failure_in_a_later_step_what_had_not_moved_stays(monkeypatch):
    _, parameters = with_gradient()
    ascent = Ascent("plain", 0.1, 0.7)
    ascent.up(parameters)
    ascent.back()
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(1.0)  # a step of the optimiser
    before = [p.detach().clone() for p in parameters]
    copy, copied = torch.Tensor.copy_, []

    def interrupted(self, *args, **kwargs):
        if len(copied) == 2:
            raise KeyboardInterrupt
        copied.append(self)
        return copy(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "copy_", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ascent.up(parameters)
    monkeypatch.undo()
    ascent.back()
    assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))


@pytest.mark.parametrize("fails", [0, 2])
def test_after_a_failure_on_the_way_up_everything_is_where_it_was(monkeypatch, fails):
    _, parameters = with_gradient()
    ascent = Ascent("plain", 0.1, 0.7)
    empty_like, made = torch.empty_like, []

    def out_of_memory(tensor):
        if len(made) == fails:
            raise torch.OutOfMemoryError
        made.append(tensor)
        return empty_like(tensor)

    monkeypatch.setattr(torch, "empty_like", out_of_memory)
    before = [p.detach().clone() for p in parameters]
    with pytest.raises(torch.OutOfMemoryError):
        ascent.up(parameters)
    ascent.back()
    assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))
    monkeypatch.undo()
    ascent.up(parameters)
    with torch.no_grad():
        parameters[0].add_(1.0)
        ascent.back()
    later = [p.detach().clone() for p in parameters]
    assert all(torch.equal(p, b) for p, b in zip(later, before, strict=True))


def test_it_says_how_many_weights_moved_and_where_to():
    _, parameters = with_gradient(torch.bfloat16)
    lost = Ascent("plain", 1e-7, 1.0)
    lost.up(parameters)
    told = lost.back()
    assert told["ascent_changed"] == 0 and told["ascent_cosine"] == 0
    _, parameters = with_gradient()
    found = Ascent("plain", 0.1, 1.0)
    found.up(parameters)
    told = found.back()
    assert told["ascent_cosine"].item() == pytest.approx(1.0, abs=1e-5) and told["ascent_changed"] == 1
    found.up(parameters)
    for parameter in parameters:
        parameter.grad.neg_()
    assert found.back()["ascent_cosine"].item() == pytest.approx(-1.0, abs=1e-5)


def test_what_has_no_gradient_is_not_lost_in_rounding():
    torch.manual_seed(0)
    words = torch.nn.Embedding(1000, 4)
    words(torch.tensor([3, 5])).sum().backward()
    ascent = Ascent("normalised", 1.0, 0.1)
    ascent.up([words.weight])
    assert ascent.back()["ascent_changed"] == 1
    words.weight.grad.zero_()
    ascent.up([words.weight])
    assert ascent.back()["ascent_changed"] == 1


def test_a_gradient_of_0_and_weights_without_one_go_nowhere():
    made, parameters = with_gradient(scale=0.0)
    parameters[0].grad = None
    before = copy.deepcopy(made.state_dict())
    ascent = Ascent("normalised", 1.0, 0.5)
    ascent.up(parameters)
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())


@pytest.mark.parametrize("settings", [("up", 1, 1), ("plain", 0, 1), ("normalised", 1, -1.0)])
def test_settings_out_of_range(settings):
    with pytest.raises(UserError, match=r"meta\.ascent\.(kind=up|learning_rate=0|radius=-1.0)"):
        Ascent(*settings)


SHARDED = """
import os, sys, torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.device_mesh import init_device_mesh
from rlhf_rm.methods.ascent import Ascent
sys.path.insert(0, "tests/methods")
from test_ascent import network, with_gradient
dist.init_process_group("gloo")
whole, parameters = with_gradient()
sharded = network()
fully_shard(sharded, mesh=init_device_mesh("cpu", (2,)))
sharded(torch.ones(2, 3)).square().sum().backward()
before = [p.full_tensor().clone() for p in sharded.parameters()]
for kind in ("plain", "normalised"):
    one, two = (Ascent(kind, 0.1, 0.2) for _ in range(2))
    norms = one.up(parameters), two.up(list(sharded.parameters()))
    assert torch.allclose(*norms), norms
    for ours, theirs in zip(sharded.parameters(), parameters, strict=True):
        assert torch.allclose(ours.full_tensor(), theirs, atol=1e-6)
    expected, found = one.back(), two.back()
    for name, value in found.items():
        assert torch.allclose(value, expected[name], atol=1e-5), (name, value, expected[name])
    for ours, theirs in zip(sharded.parameters(), before, strict=True):
        assert torch.equal(ours.full_tensor(), theirs)
dist.barrier()
os._exit(0)  # gloo's threads sometimes abort a process that ends in order
"""


def test_shards_of_two_ranks_move_as_the_whole(tmp_path):
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
