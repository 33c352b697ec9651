"""A policy that learns, against plain transformers and slow loops, and over interruptions."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rlhf_rm.callbacks.checkpoint import checkpoints
from rlhf_rm.data.packing import Packing
from rlhf_rm.data.prompts import PromptDataModule
from rlhf_rm.data.rollouts import Rollouts
from rlhf_rm.data.sft import SFTDataModule
from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError
from rlhf_rm.functional.ppo import Moments
from rlhf_rm.methods.rollout import answer, look_back
from rlhf_rm.models.actor_critic import ActorCritic
from rlhf_rm.models.generate import Generator, Sampling
from rlhf_rm.models.transformers_engine import TransformersEngine

ROOT = Path(__file__).parents[2]
PROMPTS = [(Message("user", text),) for text in ("red one", "green blue two three maybe", "no", "yes yes")]
LAYOUTS = [("shared", 200, 999), ("shared", 1, 1), ("packed", 90, 200), ("padded", 1, 400)]


@pytest.fixture
def tiny_ppo(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    import tiny_ppo

    return tiny_ppo


@pytest.fixture
def tokenizer(tiny_ppo):
    return tiny_ppo.make_tokenizer()


def answers_of(tiny_ppo, tokenizer, policy, k=3, temperature=0.7):
    generator = Generator(
        policy.network, tokenizer, Sampling(8, temperature, 1.0, 1.0), TransformersEngine(512), max_length=120
    )
    return answer(generator, tiny_ppo.make_scorer(tokenizer), PROMPTS, k, seed=1, source=None)


@pytest.mark.parametrize(("layout", "row_tokens", "micro_tokens"), LAYOUTS)
@pytest.mark.parametrize("adapted", [False, True])
def test_tokens_have_the_probabilities_and_values_of_plain_transformers(
    tiny_ppo, tokenizer, layout, row_tokens, micro_tokens, adapted
):
    adapter = tiny_ppo.make_lora() if adapted else None
    module = tiny_ppo.make_module(tokenizer, adapter=adapter)
    model = module.model
    start = {name: value.clone() for name, value in model.actor.state_dict().items()}
    with torch.no_grad():  # so that the reference is another policy
        for parameter in model.actor.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    answers = answers_of(tiny_ppo, tokenizer, model.actor)
    packing = Packing(layout, row_tokens, micro_tokens, tokenizer.eos_token_id, row_multiple=1)
    rollouts = answers.rollouts()
    entropy = look_back(model, rollouts, rollouts.batches(packing), temperature=0.7)
    assert len(rollouts) == 12
    assert len(set(rollouts.length_N.tolist())) > 1
    original = tiny_ppo.make_policy(tokenizer, adapter)
    original.load_state_dict(start)
    for n in range(12):
        prompt, response = answers.responses[n].prompt_ids, answers.responses[n].ids
        ids = torch.tensor([[*prompt, *response]])
        own = slice(len(prompt) - 1, -1)
        with torch.no_grad():
            log_prob = (model.actor.network(ids).logits[0, own] / 0.7).log_softmax(-1)
            before = (original.network(ids).logits[0, own] / 0.7).log_softmax(-1)
            state = model.critic.network.model(ids).last_hidden_state[0, own]
            value = model.critic.network.score(state).squeeze(1)
        spoken = torch.tensor(response)[:, None]
        tokens = len(response)
        for got, expected in (
            (rollouts.old_NT, log_prob.gather(1, spoken).squeeze(1)),
            (rollouts.reference_NT, before.gather(1, spoken).squeeze(1)),
            (rollouts.value_NT, value),
            (entropy, -(log_prob.exp() * log_prob).sum(-1)),
        ):
            torch.testing.assert_close(got[n, :tokens], expected, atol=1e-5, rtol=1e-5)
            assert (got[n, tokens:] == 0).all()
    assert (rollouts.old_NT - rollouts.reference_NT).abs().max() > 0.01


def test_logits_taken_some_at_a_time_have_the_same_values_and_gradients(tiny_ppo, tokenizer, monkeypatch):
    policy = tiny_ppo.make_policy(tokenizer)
    module = tiny_ppo.make_module(tokenizer)
    rollouts = answers_of(tiny_ppo, tokenizer, policy).rollouts()
    batches = rollouts.batches(Packing("shared", 200, 999, 0, row_multiple=1))
    look_back(module.model, rollouts, batches, temperature=0.7)
    batch = next(rollouts.batches(Packing("shared", 200, 999, 0, row_multiple=1)))
    found = []
    for size in (2**24, len(tokenizer) * 5):
        monkeypatch.setattr("rlhf_rm.models.language.LOGITS", size)
        policy.zero_grad()
        got = policy.token_log_probs(batch.rows, batch.predictor_L, batch.label_L, temperature=0.7)
        (got.log_prob_L * got.entropy_L).sum().backward()
        found.append([got.log_prob_L.detach(), *(p.grad.clone() for p in policy.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_dropout_is_off_and_the_critic_must_value_tokens(tiny_ppo, tokenizer):
    critic = tiny_ppo.make_model(tokenizer, dropout=0.5)
    model = ActorCritic(tiny_ppo.make_policy(tokenizer), critic).train()
    assert all(layer.self_attn.attention_dropout == 0 for layer in model.critic.network.model.layers)
    critic.backbone.is_decoder = False
    with pytest.raises(UserError, match="must be a decoder with one head"):
        ActorCritic(tiny_ppo.make_policy(tokenizer), critic)


@pytest.mark.parametrize("data", [{}, {"layout": "padded", "micro_tokens": 1}, {"row_tokens": 1}])
def test_a_step_is_that_of_the_plain_formulas(tiny_ppo, tokenizer, tmp_path, data):
    """The first step of an iteration: gradients by plain transformers, one response at a time."""
    module = tiny_ppo.make_module(tokenizer, lr=1e-9, objective={"critic_learning_rate": 1e-9})
    module.gradient_clip = None
    grads = {}
    module.on_before_optimizer_step = lambda optimizer: grads.setdefault(
        "found", {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    )
    steps = []
    module.on_train_batch_start = lambda batch, index: steps.append(batch)
    tiny_ppo.fit(tmp_path, module=module, data=data, max_steps=1)
    rollouts = module.rollouts
    chosen = [n for n in range(len(rollouts)) if rollouts.group[n] in steps[0].part]
    assert len(chosen) == 4
    module.zero_grad()
    tokens = sum(int(rollouts.length_N[n]) for n in chosen)
    total = torch.zeros(())
    model = module.model
    for n in chosen:
        prompt, response = rollouts.prompt_tokens[n], rollouts.response_tokens[n]
        ids = torch.from_numpy(np.concatenate([prompt, response]))[None].long()
        own = slice(len(prompt) - 1, -1)
        log_prob = (model.actor.network(ids).logits[0, own] / 0.9).log_softmax(-1)
        spoken = log_prob.gather(1, ids[0, len(prompt) :, None]).squeeze(1)
        entropy = -(log_prob.exp() * log_prob).sum(-1)
        value = model.critic.network.score(model.critic.network.model(ids).last_hidden_state[0, own])
        length = len(response)
        advantage, returns = rollouts.advantage_NT[n, :length], rollouts.return_NT[n, :length]
        # At the first step nothing has moved: ratios are 1 and values where they were.
        ratio = (spoken - spoken.detach()).exp()
        total = total - (ratio * advantage).sum() - 0.01 * entropy.sum()
        total = total + 0.5 * 0.5 * ((value.squeeze(1) - returns) ** 2).sum()
    (total / tokens).backward()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(grads["found"][name], parameter.grad, atol=2e-5, rtol=1e-3)
    assert len(grads["found"]) > 20


@pytest.mark.parametrize("ends", [[1], [1, 9]])
def test_rewards_are_normalised_clipped_penalised_and_whitened(tiny_ppo, tokenizer, tmp_path, ends):
    shaping = {"kl_weight": 0.0, "clip": 0.7, "trace_decay": 1.0, "missing_eos_penalty": 0.5}
    module = tiny_ppo.make_module(tokenizer, shaping=shaping, max_new_tokens=2)
    actor = module.model.actor.network
    actor.generation_config.eos_token_id = ends
    with torch.no_grad():
        actor.lm_head.weight[ends] = actor.lm_head.weight[1].clone()
    tiny_ppo.fit(tmp_path, module=module, data={"max_new_tokens": 2}, max_steps=1)
    rollouts = module.rollouts
    score = rollouts.score_N.double()
    expected = ((score - score.mean()) / score.std(correction=0)).clamp(-0.7, 0.7)
    last = [one[-1] for one in rollouts.response_tokens]
    assert set(ends) <= set(last)
    ended = torch.tensor([token in ends for token in last])
    expected -= 0.5 * (~ended).double()
    assert not ended.all()
    assert ended.any()
    # With a full trace and no penalty every token's return is the score of its response.
    for n, length in enumerate(rollouts.length_N.tolist()):
        assert torch.allclose(rollouts.return_NT[n, :length].double(), expected[n].expand(length), atol=1e-5)
    own = rollouts.old_NT != 0
    whole = rollouts.advantage_NT[own]
    assert abs(whole.mean()) < 1e-5
    assert abs(whole.std(correction=0) - 1) < 1e-4


def test_it_learns_to_please_its_reward_model(tiny_ppo, tokenizer, tmp_path):
    module = tiny_ppo.make_module(tokenizer, k=4, lr=1e-2, shaping={"kl_weight": 0.0, "normalise": True})
    trainer, _, _ = tiny_ppo.fit(tmp_path, module=module, data={"batch_size": 4}, max_steps=80)
    rewards = [one["reward"] for one in module.history]
    assert np.mean(rewards[-4:]) > np.mean(rewards[:4]) + 0.1
    assert module.history[0]["kl"] == pytest.approx(0, abs=1e-3)
    assert module.history[-1]["kl"] > 0.1
    assert len(module.history) == 80 // 4
    trainer.test(module, datamodule=trainer.datamodule, verbose=False)
    test = module.results()["sets"]["test"]
    assert test["reward"] > test["reward_reference"]
    assert test["prompts"] == 5
    low, high = test["reward_ci95"]
    assert low < test["reward"] < high


def test_adapters_alone_are_trained_and_the_reference_stays(tiny_ppo, tokenizer, tmp_path):
    module = tiny_ppo.make_module(tokenizer, adapter=tiny_ppo.make_lora())
    frozen = {n: p.clone() for n, p in module.named_parameters() if not p.requires_grad}
    tiny_ppo.fit(tmp_path, module=module)
    for name, parameter in module.named_parameters():
        if name in frozen:
            assert torch.equal(parameter, frozen[name]), name
    assert abs(module.history[-1]["kl"]) > 1e-4
    kept = torch.load(checkpoints(tmp_path)[-1], weights_only=False)["state_dict"]
    assert all("lora_" in name or "score" in name for name in kept)


def test_kl_weight_follows_the_target(tiny_ppo, tokenizer, tmp_path):
    shaping = {"kl_target": 1e-6, "kl_horizon": 16.0}
    module = tiny_ppo.make_module(tokenizer, shaping=shaping, lr=1e-2)
    tiny_ppo.fit(tmp_path, module=module, max_steps=9)
    weights = [one["kl_weight"] for one in module.history]
    assert weights[0] == 0.1
    # 8 responses an iteration: β changes by a fifth of 8 / 16 at most.
    assert weights[1] in (pytest.approx(0.1 * 1.1), pytest.approx(0.1 * 0.9))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"kl": 0.05}, "nats from the reference, more than ppo.limits.kl=0.05"),
        ({"reward_drop": -9.0}, "the mean reward fell"),
    ],
)
def test_a_run_that_is_lost_stops_with_a_sentence(tiny_ppo, tokenizer, tmp_path, capsys, limits, words):
    module = tiny_ppo.make_module(tokenizer, limits=limits, lr=3e-2, shaping={"kl_weight": 0.0})
    trainer, _, _ = tiny_ppo.fit(tmp_path, module=module, max_steps=200, enable_progress_bar=False)
    assert trainer.global_step < 200
    assert words in capsys.readouterr().out


def test_a_reward_model_that_says_one_thing_or_nothing_is_refused(tiny_ppo, tokenizer, tmp_path):
    for value, words in ((0.0, "the same reward"), (float("nan"), "no finite numbers")):
        model = tiny_ppo.make_model(tokenizer)
        with torch.no_grad():
            model.network.score.weight.fill_(value)
        module = tiny_ppo.make_module(tokenizer, scorer=tiny_ppo.make_scorer(tokenizer, model=model))
        with pytest.raises(UserError, match=words):
            tiny_ppo.fit(tmp_path, module=module, max_steps=2)


def test_reward_models_with_other_tokenizers_read_the_text(tiny_ppo, tokenizer):
    from rlhf_rm.data.template import set_template
    from rlhf_rm.models.tokenizer import train_byte_bpe

    other = train_byte_bpe(["a quite different text, with other words"], vocab_size=270)
    set_template(other, "plain")
    scorer = tiny_ppo.make_scorer(tokenizer, other)
    dialogues = [(PROMPTS[0], "red two"), (PROMPTS[1], "no")]
    alone = [tiny_ppo.make_scorer(one)(dialogues) for one in (tokenizer, other)]
    assert (alone[0] - alone[1]).abs().min() > 1e-3
    torch.testing.assert_close(scorer(dialogues), torch.stack(alone).mean(0))
    worst = tiny_ppo.make_scorer(tokenizer, other, pool="worst")(dialogues)
    torch.testing.assert_close(worst, torch.stack(alone).amin(0))


def test_texts_beside_are_imitated(tiny_ppo, tokenizer, tmp_path):
    losses = {}
    for weight in (0.0, 5.0):
        module = tiny_ppo.make_module(tokenizer, lr=1e-2, objective={"text_weight": weight})
        beside = {"texts": 6 if weight else 0}
        trainer, _, _ = tiny_ppo.fit(tmp_path / str(weight), module=module, data=beside, max_steps=24)
        settings = tiny_ppo.SFT_LOADING
        texts = SFTDataModule(trainer.datamodule.source, tokenizer, **settings).step("train", range(20))
        with torch.no_grad():
            losses[weight] = float(torch.cat([module.model.actor(text) for text in texts]).mean())
    assert losses[5.0] < losses[0.0] - 0.5


def run(options, kill=False):
    ended = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "tiny_ppo.py"), json.dumps(options)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == (-signal.SIGKILL if kill else 0), ended.stderr[-2000:]
    directory = Path(options["directory"])
    if not kill:
        return json.loads((directory / "watched.json").read_text()), torch.load(directory / "weights.pt")
    return None


@pytest.mark.parametrize("killed", [pytest.param(2, marks=pytest.mark.slow), 5])
def test_killed_within_an_iteration_it_goes_on_with_the_same_numbers(tmp_path, killed):
    module = {"shaping": {"kl_target": 0.5, "kl_horizon": 50.0}}
    whole, weights = run({"directory": str(tmp_path / "whole"), "module": module})
    cut = {"directory": str(tmp_path / "cut"), "module": module, "every_n_steps": 1}
    run(cut | {"watch": {"kill_after": killed}}, kill=True)
    newest = checkpoints(tmp_path / "cut")[-1]
    assert int(newest.stem.split("_")[1]) in (killed - 1, killed)
    again, resumed = run(cut | {"resume": str(newest)})
    assert again["seen"] == whole["seen"][-len(again["seen"]) :]
    assert again["results"] == whole["results"]
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


@pytest.mark.slow
def test_each_token_that_is_imitated_weighs_the_same_on_every_rank(tiny_ppo, tokenizer, tmp_path):
    """The gradient that dialogues add is that of their mean loss, whatever the ranks' responses are."""
    two = {"strategy": "ddp", "devices": 2, "accelerator": "cpu", "max_steps": 1, "data": {"texts": 2}}
    gradients = []
    for weight in (1.0, 2.0):
        directory = tmp_path / str(weight)
        run(
            {
                "directory": str(directory),
                **two,
                "module": {"objective": {"text_weight": weight}, "gradient_clip": None},
            }
        )
        gradients.append(torch.load(directory / "gradient.pt"))
    datamodule = PromptDataModule(tiny_ppo.Source(), tokenizer, **tiny_ppo.LOADING | {"texts": 2})
    actor, losses = tiny_ppo.make_policy(tokenizer), []
    for rank in range(2):
        datamodule.trainer = SimpleNamespace(global_rank=rank)
        losses.append(torch.cat([actor(text) for text in datamodule._texts_of(0)]))
    assert len(losses[0]) != len(losses[1])
    torch.cat(losses).mean().backward()
    for name, parameter in actor.named_parameters():
        torch.testing.assert_close(
            gradients[1][name] - gradients[0][name], parameter.grad, atol=1e-5, rtol=1e-4
        )


def test_two_ranks_keep_step_and_a_checkpoint_holds_the_responses_of_both(tmp_path):
    two = {"strategy": "ddp", "devices": 2, "accelerator": "cpu"}
    options = {"directory": str(tmp_path), "max_steps": 6, **two}
    seen, _ = run(options)
    assert len(seen["seen"]) == 6
    checkpoint = torch.load(checkpoints(tmp_path)[-1], weights_only=False)
    state = checkpoint["ppo"]
    first, second = state["rollouts"]
    both = [Rollouts.from_state(one) for one in (first, second)]
    return_L, value_L = (
        torch.cat([getattr(one, name)[one.own] for one in both]) for name in ("return_NT", "value_NT")
    )
    explained = 1 - (return_L - value_L).var() / return_L.var()
    assert checkpoint["history"][-1]["explained_variance"] == pytest.approx(float(explained), abs=1e-4)
    assert len(first["response_tokens"]) == len(second["response_tokens"]) == 8
    assert first["prompt_tokens"][0].tolist() != second["prompt_tokens"][0].tolist()
    assert Moments(*state["seen"]).number == 2 * 16
    on, _ = run(options | {"resume": str(checkpoints(tmp_path)[-3]), "max_steps": 6})
    assert on["seen"] == seen["seen"][-2:]
