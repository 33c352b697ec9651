"""A tiny PPO run, for tests and for processes of tests: `python tests/tiny_ppo.py JSON`."""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import lightning as L
import torch
from tiny import Source, make_config, make_model, make_tokenizer, make_trainer
from transformers import AutoModelForCausalLM

from rlhf_rm.data.prompts import PromptDataModule
from rlhf_rm.methods.ppo import PPOModule
from rlhf_rm.methods.ppo_settings import Limits, Objective, Shaping
from rlhf_rm.methods.schedules import warmup_linear
from rlhf_rm.methods.scorer import ResponseScorer
from rlhf_rm.models.actor_critic import ActorCritic
from rlhf_rm.models.adapter import LoRA, NoAdapter
from rlhf_rm.models.attention.sdpa import SDPAAttention
from rlhf_rm.models.generate import Sampling
from rlhf_rm.models.language import LanguageModel
from rlhf_rm.models.load import LoadedReward
from rlhf_rm.models.transformers_engine import TransformersEngine
from rlhf_rm.strategies.fsdp import FSDPStrategy

LOADING = {
    "layout": "shared",
    "max_length": 120,
    "too_long": "truncate_prompt_left",
    "batch_size": 2,
    "eval_batch_size": 4,
    "row_tokens": 128,
    "micro_tokens": 256,
    "row_multiple": 1,
    "workers": 0,
    "seed": 3,
    "minibatches": 2,
    "passes": 2,
    "max_new_tokens": 8,
    "texts": 0,
    "evaluated": 5,
}
SFT_LOADING = {
    k: v
    for k, v in LOADING.items()
    if k not in ("minibatches", "passes", "max_new_tokens", "texts", "evaluated")
}
SHAPING = {
    "kl_weight": 0.1,
    "kl_target": None,
    "kl_horizon": 100.0,
    "normalise": True,
    "clip": 3.0,
    "missing_eos_penalty": 0.5,
    "discount": 1.0,
    "trace_decay": 0.95,
}
OBJECTIVE = {
    "clip": 0.2,
    "value_clip": 0.2,
    "value_weight": 0.5,
    "entropy_weight": 0.01,
    "text_weight": 0.0,
    "critic_learning_rate": 3e-3,
}


def make_policy(tokenizer, adapter=None, seed=0):
    torch.manual_seed(seed)
    config = make_config(tokenizer)
    network = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    with torch.no_grad():
        network.lm_head.weight.normal_(std=0.3)
        network.lm_head.weight[tokenizer.eos_token_id] *= 6
    (adapter or NoAdapter(1e-3)).apply(network, train_head=False)
    return LanguageModel(network, SDPAAttention()).train()


def make_lora():
    return LoRA(r=2, alpha=4, dropout=0.0, targets=None, top_layers=None, learning_rate=1e-3)


def make_scorer(tokenizer, *others, pool="mean", caution=1.0, model=None):
    loaded = [
        LoadedReward((model or make_model(made)).eval(), made, 200, "tiny") for made in (tokenizer, *others)
    ]
    return ResponseScorer(
        loaded, pool=pool, caution=caution, row_tokens=128, micro_tokens=512, row_multiple=1
    )


def make_module(
    tokenizer,
    *,
    adapter=None,
    scorer=None,
    k=2,
    lr=3e-3,
    temperature=0.9,
    max_new_tokens=8,
    shaping=None,
    objective=None,
    limits=None,
    gradient_clip=1.0,
):
    critic = make_model(tokenizer)
    (adapter or NoAdapter(1e-3)).apply(critic.network, train_head=True)
    return PPOModule(
        ActorCritic(make_policy(tokenizer, adapter), critic),
        scorer or make_scorer(tokenizer),
        partial(torch.optim.AdamW, lr=lr, weight_decay=0.01),
        partial(warmup_linear, warmup=0.0, floor=0.1),
        gradient_clip,
        sampling=Sampling(max_new_tokens, temperature, 1.0, 1.0),
        k=k,
        engine=TransformersEngine(512),
        shaping=Shaping(**SHAPING | (shaping or {})),
        objective=Objective(**OBJECTIVE | (objective or {})),
        limits=Limits(**{"kl": None, "reward_drop": None} | (limits or {})),
    )


class Watch(L.Callback):
    """Keeps each step's loss and rewards, and the actor's gradient; ends the process where told to."""

    def __init__(self, kill_after=None):
        self.kill_after = kill_after
        self.seen = []
        self.gradient = {}

    def on_before_optimizer_step(self, trainer, module, optimizer):
        named = module.model.actor.named_parameters()
        self.gradient = {name: p.grad.clone() for name, p in named if p.grad is not None}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        metrics = trainer.callback_metrics
        names = ("train/loss", "train/reward", "train/kl", "train/kl_weight", "train/value_error")
        self.seen.append([trainer.global_step, *(float(metrics[name]) for name in names)])
        if trainer.global_step == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)


def fit(
    directory, *, module=None, data=None, source=None, watch=None, resume=None, every_n_steps=1, **trainer
):
    """Train a tiny policy; returns (trainer, module, what was watched)."""
    watch = watch or Watch()
    tokenizer = make_tokenizer()
    made = module if isinstance(module, PPOModule) else make_module(tokenizer, **module or {})
    datamodule = PromptDataModule(Source(**source or {}), tokenizer, **LOADING | (data or {}))
    lightning = make_trainer(
        directory, [watch], every_n_steps=every_n_steps, **{"max_steps": 10, "max_epochs": None} | trainer
    )
    lightning.fit(made, datamodule=datamodule, ckpt_path=resume, weights_only=False)
    return lightning, made, watch


def main(options):
    torch.set_num_threads(1)
    watch = Watch(**options.pop("watch", {}))
    trainer, module, _ = fit(**options, watch=watch)
    trainer.test(module, datamodule=trainer.datamodule, verbose=False)
    weights = module.trained_state()
    if isinstance(trainer.strategy, FSDPStrategy):
        weights = {name: one for name, one in trainer.strategy.whole(module).items() if name in weights}
    if trainer.is_global_zero:
        directory = Path(options["directory"])
        torch.save(weights, directory / "weights.pt")
        torch.save(watch.gradient, directory / "gradient.pt")
        results = json.loads(json.dumps(module.results()))
        for one in results["history"]:
            del one["rollouts_per_second"]
        (directory / "watched.json").write_text(json.dumps({"seen": watch.seen, "results": results}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
