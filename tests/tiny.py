"""A tiny run from made-up pairs, for tests and for processes of tests: `python tests/tiny.py JSON`."""

import hashlib
import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import lightning as L
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from rlhf_rm.callbacks.checkpoint import StepCheckpoint
from rlhf_rm.callbacks.metrics_csv import MetricsCSV
from rlhf_rm.callbacks.step_seed import StepSeed
from rlhf_rm.commands.quiet import quiet
from rlhf_rm.data.contrastive import ContrastiveDataModule
from rlhf_rm.data.denoised import DenoisedDataModule
from rlhf_rm.data.meta import MetaContrastiveDataModule, MetaDataModule
from rlhf_rm.data.preference import PreferenceDataModule
from rlhf_rm.data.template import set_template
from rlhf_rm.data.types import Message, PreferencePair
from rlhf_rm.denoise.adaptive_margin import AdaptiveMargin
from rlhf_rm.denoise.base import Recipe
from rlhf_rm.denoise.flip import Flip
from rlhf_rm.denoise.select import Select
from rlhf_rm.errors import UserError
from rlhf_rm.losses.bradley_terry import BradleyTerryLoss
from rlhf_rm.losses.simcse import SimCSELoss
from rlhf_rm.losses.swav import SwAVLoss
from rlhf_rm.methods.ascent import Ascent
from rlhf_rm.methods.contrastive import ContrastiveRewardModule
from rlhf_rm.methods.denoised import DenoisedRewardModule
from rlhf_rm.methods.meta import MetaContrastiveRewardModule, MetaRewardModule
from rlhf_rm.methods.reward import RewardModule
from rlhf_rm.methods.schedules import warmup_linear
from rlhf_rm.models.attention.sdpa import SDPAAttention
from rlhf_rm.models.reward import RewardModel
from rlhf_rm.models.tokenizer import train_byte_bpe
from rlhf_rm.strategies.deepspeed import DeepSpeedStrategy
from rlhf_rm.strategies.fsdp import FSDPStrategy
from rlhf_rm.strategies.sharded import Sharded
from rlhf_rm.strategies.sharded_checkpoint import FromShards, is_sharded

WORDS = ["red", "green", "blue", "one", "two", "three", "yes", "no", "maybe"]


class Source:
    """Pairs of random words, in each split as many as are asked for.

    With ``threes`` the responses of every other prompt are three, and make three pairs.
    """

    name = "tiny"
    splits = ("train", "validation", "test")

    def __init__(self, train=24, validation=7, test=7, margin=None, threes=False):
        self.counts = {"train": train, "validation": validation, "test": test}
        self.margin, self.threes = margin, threes

    def pairs(self, split):
        rng = random.Random(split)
        return [pair for number in range(self.counts[split]) for pair in self._of_prompt(rng, split, number)]

    def _of_prompt(self, rng, split, number):
        prompt, name = (Message("user", self._words(rng, 6)),), f"{split}-{number}"
        texts = [self._words(rng, 5), self._words(rng, 9) + "?"]
        if not self.threes or number % 2:
            return [PreferencePair(prompt, *texts, id=name, margin=self.margin)]
        pairs = itertools.combinations([*texts, self._words(rng, 5) + "!"], 2)
        return [PreferencePair(prompt, *both, id=name, margin=self.margin, group=name) for both in pairs]

    def fingerprint(self):
        return hashlib.sha256(repr((self.counts, self.margin, self.threes)).encode()).hexdigest()

    def report(self):
        return {"rows": self.counts}

    def _words(self, rng, most):
        return " ".join(rng.choices(WORDS, k=rng.randint(1, most)))


def make_tokenizer():
    tokenizer = train_byte_bpe(WORDS * 3, vocab_size=280)
    set_template(tokenizer, "hh")
    return tokenizer


def make_config(tokenizer, **more):
    return AutoConfig.for_model(
        "llama",
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **more,
    )


def make_model(tokenizer, dropout=0.0):
    torch.manual_seed(0)
    config = make_config(tokenizer, attention_dropout=dropout, num_labels=1)
    network = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa")
    with torch.no_grad():  # rewards far enough apart that a difference shows
        network.score.weight.normal_(std=1.0)
    return RewardModel(network, SDPAAttention()).train()


LOADING = {
    "layout": "shared",
    "max_length": 200,
    "too_long": "error",
    "batch_size": 4,
    "eval_batch_size": 2,
    "row_tokens": 128,
    "micro_tokens": 256,
    "row_multiple": 1,
    "workers": 0,
    "seed": 3,
    "cache_dir": None,
}


def make_datamodule(source, tokenizer, **changes):
    return PreferenceDataModule(source, tokenizer, **LOADING | changes)


def make_module(model, lr=1e-2, gradient_clip=1.0, loss=None, schedule=None, optimizer="AdamW", centring=0.0):
    return RewardModule(
        model,
        loss or BradleyTerryLoss(label_smoothing=0.0),
        partial(getattr(torch.optim, optimizer), lr=lr, weight_decay=0.01),
        schedule or partial(warmup_linear, warmup=0.2, floor=0.0),
        gradient_clip,
        centring,
    )


CONTRASTIVE = {
    "simcse": partial(SimCSELoss, temperature=0.5),
    "swav": partial(SwAVLoss, prototypes=5, temperature=0.5, epsilon=0.5, iterations=3),
}


def make_contrastive(model, kind, items, weight=1.0, dropout=0.0, **changes):
    plain = make_module(model, **changes)
    settings = (plain.loss, plain.optimizer_factory, plain.scheduler_factory, plain.gradient_clip)
    torch.manual_seed(2)  # of the prototypes
    return ContrastiveRewardModule(
        model,
        *settings,
        plain.centring,
        contrastive=partial(CONTRASTIVE[kind], items=items),
        contrastive_weight=weight,
        dropout=dropout,
    )


META = {"k": 5, "prompts": 4, "held_out": 0.25}


def write_responses(path, prompts=20, k=5, seed="responses"):
    """A file of K responses to each of some prompts, of which some come twice."""
    rng = random.Random(seed)
    words = Source()._words
    rows = [
        {"prompt": f"{i} {words(rng, 6)}", "responses": [words(rng, 2) for _ in range(k)]}
        for i in range(prompts)
    ]
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def make_meta(module, kind="plain", learning_rate=0.5, radius=0.1):
    """The MetaRM of a plain or contrastive module."""
    settings = (
        module.loss,
        module.optimizer_factory,
        module.scheduler_factory,
        module.gradient_clip,
        module.centring,
    )
    ascent = Ascent(kind, learning_rate, radius)
    if not isinstance(module, ContrastiveRewardModule):
        return MetaRewardModule(module.model, *settings, ascent=ascent)
    return MetaContrastiveRewardModule(
        module.model,
        *settings,
        ascent=ascent,
        contrastive=lambda size: module.contrastive,
        contrastive_weight=module.contrastive_weight,
        dropout=module.dropout,
    )


def make_recipe():
    """Flips a part, and gives margins."""
    part = Select(below=0.3)
    return Recipe({"flip": Flip(part), "margin": AdaptiveMargin(scale=0.1, clip=3.0)})


def make_denoised(module):
    """The denoised twin of a plain module."""
    return DenoisedRewardModule(
        module.model,
        module.loss,
        module.optimizer_factory,
        module.scheduler_factory,
        module.gradient_clip,
        module.centring,
    )


class Watch(L.Callback):
    """Keeps the pairs and the loss of each step and what was validated; ends the process where told to."""

    def __init__(self, kill_after=None, sigterm_after=None):
        self.kill_after, self.sigterm_after = kill_after, sigterm_after
        self.steps, self.losses, self.rates, self.validations = [], [], [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.steps.append([trainer.global_step, sorted(int(i) for part in batch for i in part.index_B)])
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
        if trainer.global_step == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        if trainer.global_step == self.sigterm_after and trainer.is_global_zero:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_validation_end(self, trainer, module):
        self.validations.append([trainer.global_step, float(trainer.callback_metrics["val/loss"])])


def make_trainer(directory, callbacks=(), every_n_steps=1, keep=99, **changes):
    quiet()
    settings = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "devices": 1,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "default_root_dir": str(directory),
        "logger": MetricsCSV(str(Path(directory) / "metrics.csv")),
    }
    return L.Trainer(
        callbacks=[*callbacks, StepSeed(5), StepCheckpoint(str(directory), every_n_steps, keep)],
        **settings | changes | sharded(changes.get("strategy", "auto")),
    )


def sharded(strategy):
    """What a trainer is told for it."""
    if strategy == "fsdp":
        return {"strategy": FSDPStrategy(timeout_seconds=60), "inference_mode": False}
    if strategy.startswith("zero"):
        return {
            "strategy": DeepSpeedStrategy(stage=int(strategy[-1]), timeout_seconds=60, settings={}),
            "inference_mode": False,
        }
    return {}


def fit(
    directory,
    *,
    source=None,
    model=None,
    module=None,
    data=None,
    weighted=False,
    spoilt=None,
    contrastive=None,
    meta=None,
    strengths=None,
    watch=None,
    resume=None,
    also=(),
    every_n_steps=1,
    **trainer,
):
    """Train a tiny reward model; returns (trainer, module, what was watched)."""
    watch = watch or Watch()
    tokenizer = make_tokenizer()
    network = make_model(tokenizer, **model or {})
    made_of, settings = Source(**source or {}), LOADING | (data or {})
    if contrastive:
        module = make_contrastive(network, **contrastive, **module or {})
        settings["share_prefix"] = False
    else:
        module = make_module(network, **module or {})
    if meta:
        module = make_meta(module, **meta.get("ascent", {}))
        settings |= META | meta["data"]
    kind = {
        (False, False): PreferenceDataModule,
        (True, False): ContrastiveDataModule,
        (False, True): MetaDataModule,
        (True, True): MetaContrastiveDataModule,
    }[bool(contrastive), bool(meta)]
    if strengths:
        module, kind = make_denoised(module), DenoisedDataModule
        settings |= {"strengths": strengths, "recipe": make_recipe()}
    datamodule = kind(made_of, tokenizer, **settings)
    if weighted:
        weight = datamodule.split("train").labels.weight
        weight[:] = [0.25 + number % 3 for number in range(len(weight))]
    if spoilt is not None:
        datamodule.split("train").labels.margin[spoilt] = math.nan
    made = make_trainer(directory, [watch, *also], every_n_steps=every_n_steps, **trainer)
    if resume and is_sharded(Path(resume)) and not isinstance(made.strategy, FSDPStrategy):
        made.strategy.checkpoint_io = FromShards()
    made.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=False)
    return made, module, watch


def main(runs):
    """Several runs one after the other, each leaving weights and what was watched in its directory."""
    torch.set_num_threads(1)
    for options in runs:
        test = options.pop("test", False)
        options["watch"] = Watch(**options.pop("watch", {}))
        directory = Path(options["directory"])
        try:
            trainer, module, watch = fit(**options)
        except UserError as error:
            if options.get("spoilt") is None:
                raise
            (directory / f"refused_{os.environ.get('LOCAL_RANK', '0')}.txt").write_text(str(error))
            continue
        if test:
            trainer.test(module, datamodule=trainer.datamodule, verbose=False)
        in_shards = isinstance(trainer.strategy, Sharded)
        weights = trainer.strategy.whole(module) if in_shards else module.state_dict()
        if trainer.is_global_zero:
            torch.save(weights, directory / "weights.pt")
            seen = {name: getattr(watch, name) for name in ("steps", "losses", "rates", "validations")}
            if test:
                seen["test_index"] = module.test_rewards.index.tolist()
                seen["results"] = module.results()
            (directory / "watched.json").write_text(json.dumps(seen))


SHORT_ROWS = {"row_tokens": 85, "micro_tokens": 85}  # most pairs of two fill a pass each, and some share one


def in_shards(directory, ranks, strategy="fsdp", **changes):
    """Options of 12 steps of 4 pairs; on two ranks a step is several passes, and not as many on each."""
    directory.mkdir()
    return {
        "directory": str(directory),
        "source": {"train": 26, "validation": 7, "test": 7},
        "data": {"batch_size": 4 // ranks, **(SHORT_ROWS if ranks == 2 else {"micro_tokens": 9999})},
        "module": {"optimizer": "SGD", "lr": 0.002, "gradient_clip": None},
        "devices": ranks,
        "strategy": strategy if ranks == 2 else "auto",
        "max_epochs": 2,
        "val_check_interval": 0.5,
        "every_n_steps": 5,
        "weighted": True,
        "test": True,
        **changes,
    }


def watched(run):
    """What :func:`main` left of a run."""
    return json.loads((Path(run["directory"]) / "watched.json").read_text())


def in_a_process(runs):
    """What :func:`main` does, in a process of its own, which starts further ranks if a run asks for them."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(runs)],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]


def assert_same_run(first, second, steps):
    """Two runs of :func:`main` had so many steps, the same losses, and have the same weights, to 1e-5."""
    seen = [json.loads((Path(one) / "watched.json").read_text()) for one in (first, second)]
    assert len(seen[0]["losses"]) == len(seen[1]["losses"]) == steps
    assert torch.allclose(*(torch.tensor(one["losses"]) for one in seen), rtol=0, atol=1e-5)
    weights = [torch.load(Path(one) / "weights.pt") for one in (first, second)]
    for name, value in weights[0].items():
        assert torch.allclose(weights[1][name], value, atol=1e-5), name


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
