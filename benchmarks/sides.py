"""The two sides of the reward-model benchmark: one short training run of each, in a process of its own.

Both sides start from the same weights, see the same token ids in the same order, and train with AdamW of
the same settings at a constant learning rate. Neither logs, validates or saves.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import torch
from flops import useful_flops
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from measure import LiveTensors, Recorder
from omegaconf import DictConfig
from turns import wait_for_turn

from rlhf_rm.commands.build import Run, build_run
from rlhf_rm.commands.quiet import quiet
from rlhf_rm.data.packing import Tree
from rlhf_rm.data.preference import PreferenceDataModule
from rlhf_rm.data.sampling import StepSampler
from rlhf_rm.models.reward import RewardModel
from rlhf_rm.models.tokenizer import save_tokenizer

# TRL without what costs speed or changes the numbers (recomputation, bfloat16: its defaults), and silent.
PLAIN_TRL = {
    "lr_scheduler_type": "constant",
    "gradient_checkpointing": False,
    "bf16": False,
    "logging_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}
CONF = Path(__file__).resolve().parent.parent / "conf"


@dataclass(frozen=True)
class Job:
    """What all runs of a benchmark have in common.

    Args:
        overrides: of the training configuration; data and model among them.
        directory: where the common start lies.
        pairs_per_step, steps, warmup: steps of each run, and how many at the start are not measured.
        device: ``cpu`` or ``cuda``.
        tensors: measure what tensors hold instead of time; see :class:`LiveTensors`.
    """

    overrides: tuple[str, ...]
    directory: str
    pairs_per_step: int
    steps: int
    warmup: int
    device: str = "cpu"
    tensors: bool = False

    def save(self) -> Path:
        """Write it for the processes of the sides."""
        path = Path(self.directory) / ("tensors.json" if self.tensors else "job.json")
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def load(cls, path: Path) -> "Job":
        """What :meth:`save` wrote."""
        return cls(**json.loads(path.read_text()))

    def config(self, layout: str = "auto", overrides: Sequence[str] = ()) -> DictConfig:
        """The training command's configuration, made short and silent."""
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(
                "train",
                [
                    "base.enabled=false",
                    "scheduler=warmup_constant",
                    "scheduler.warmup=0",
                    *self.overrides,
                    *overrides,
                    f"loader.layout={layout}",
                    f"loader.batch_size={self.pairs_per_step}",
                    f"paths.cache_dir={self.directory}/cache",
                    f"paths.run_dir={self.directory}/run",
                    f"trainer.accelerator={'gpu' if self.device == 'cuda' else 'cpu'}",
                    "trainer.devices=1",
                    f"trainer.max_steps={self.steps}",
                    "trainer.limit_val_batches=0",
                    "+trainer.enable_checkpointing=false",
                    "+trainer.enable_progress_bar=false",
                    "+trainer.logger=false",
                ],
            )

    def build(self, cfg: DictConfig) -> Run:
        """Data, model and method, the same for the same seed."""
        quiet()
        L.seed_everything(cfg.seed, verbose=False)
        return build_run(cfg)


def prepare(job: Job) -> dict[str, Any]:
    """Write the initial weights and the token ids in training order; returns what was prepared."""
    cfg = job.config()
    run = job.build(cfg)
    assert isinstance(run.model, RewardModel)
    directory = Path(job.directory)
    run.model.network.save_pretrained(directory / "start")
    save_tokenizer(run.tokenizer, directory / "start")
    trees = list(training_order(job, cfg, run))
    if len(trees) < job.steps * job.pairs_per_step:
        raise SystemExit(
            f"{job.steps} steps are more than an epoch: the data has {len(trees)} training pairs."
        )
    columns = {
        name: [tree.branches[k].tolist() for tree in trees]
        for k, name in enumerate(("chosen_ids", "rejected_ids"))
    }
    (directory / "pairs.json").write_text(json.dumps(columns))
    tokens = sum(len(branch) for tree in trees for branch in tree.branches)
    return {
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "pairs": len(trees),
        "responses_a_prompt": max(len(tree.branches) for tree in trees),
        "tokens_a_pair": tokens / len(trees),
        "distinct_tokens_a_pair": sum(tree.size("shared") for tree in trees) / len(trees),
        "useful_flops_a_pair": useful_flops(run.model.network.config, trees) / len(trees),
        "dtype": str(run.model.network.dtype).removeprefix("torch."),
        "optimizer": str(cfg.optimizer._target_),
        "gradient_checkpointing": bool(cfg.model.gradient_checkpointing),
        "ids_sha256": hashlib.sha256(json.dumps(columns).encode()).hexdigest(),
        "learning_rate": float(cfg.model.learning_rate),
        "row_tokens": cfg.loader.row_tokens,
        "micro_tokens": cfg.loader.micro_tokens,
    }


def training_order(job: Job, cfg: DictConfig, run: Run) -> Iterator[Tree]:
    """The pairs of all steps, as this project's sampler deals them."""
    assert isinstance(run.datamodule, PreferenceDataModule)
    train = run.datamodule.split("train")
    sampler = StepSampler(train.sizes, batch_size=job.pairs_per_step, seed=cfg.seed)
    for indices in islice(sampler, job.steps):
        for index in indices:
            yield train.trees[index]


def run_ours(job: Job, layout: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train with this project: RewardModule and PreferenceDataModule under Lightning."""
    if job.device == "cuda":
        # Large models are read, which is faster than drawing them again.
        overrides = [
            *overrides,
            f"model.path={job.directory}/start",
            "model.architecture=null",
            "model.vocab_size=null",
        ]
    return train(job, job.config(layout, overrides))


def train(job: Job, cfg: DictConfig) -> dict[str, Any]:
    """Train what a configuration says, and measure its steps."""
    run = job.build(cfg)
    recorder = Recorder(wait_for_turn)

    class Record(L.Callback):
        def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            recorder.prepare()

        def on_train_batch_start(
            self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
        ) -> None:
            if batch_idx == 0:
                recorder.begin()

        def on_train_batch_end(
            self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            recorder.end_step(float(trainer.callback_metrics["train/loss"]))

    trainer: L.Trainer = instantiate(cfg.trainer, callbacks=[Record()])
    trainer.fit(run.module, datamodule=run.datamodule)
    return recorder.result(pairs_per_step=job.pairs_per_step, warmup=job.warmup)


def hold(job: Job, cfg: DictConfig) -> dict[str, float]:
    """Train what a configuration says, and measure what its tensors hold: all, and the weights."""
    run = job.build(cfg)
    live = LiveTensors()

    class Watch(L.Callback):
        def on_train_batch_start(
            self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
        ) -> None:
            if batch_idx == 0:
                live.begin()

    trainer: L.Trainer = instantiate(cfg.trainer, callbacks=[Watch()])
    trainer.fit(run.module, datamodule=run.datamodule)
    live.end()
    weights = sum(one.numel() * one.element_size() for one in run.module.parameters())
    return {"tensors_mb": live.most_mb, "weights_mb": weights / 2**20}


def run_trl(job: Job) -> dict[str, Any]:
    """Train with TRL's RewardTrainer: its own padding, collator and optimiser class."""
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl import RewardConfig, RewardTrainer

    quiet()
    cfg = job.config()
    start = Path(job.directory) / "start"
    recorder = Recorder()
    losses: list[torch.Tensor] = []

    class Record(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 0:
                recorder.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            recorder.end_step(losses[-1].item())

    class Trainer(RewardTrainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            losses.append(loss.detach())
            return loss

    settings = RewardConfig(
        output_dir=f"{job.directory}/trl",
        per_device_train_batch_size=job.pairs_per_step,
        max_steps=job.steps,
        max_length=cfg.model.max_length,
        learning_rate=cfg.model.learning_rate,
        adam_beta1=cfg.optimizer.betas[0],
        adam_beta2=cfg.optimizer.betas[1],
        adam_epsilon=cfg.optimizer.eps,
        weight_decay=cfg.optimizer.weight_decay,
        max_grad_norm=cfg.method.module.gradient_clip,
        use_cpu=job.device == "cpu",
        optim="adamw_torch_fused",
        train_sampling_strategy="sequential",
        **{**PLAIN_TRL, "gradient_checkpointing": bool(cfg.model.gradient_checkpointing)},
    )
    trainer = Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(
            start,
            dtype=getattr(torch, cfg.model.dtype),
            attn_implementation=best_padded_attention(job.device),
        ),
        args=settings,
        train_dataset=Dataset.from_dict(json.loads((Path(job.directory) / "pairs.json").read_text())),
        processing_class=AutoTokenizer.from_pretrained(start),
        callbacks=[Record()],
    )
    trainer.train()
    return recorder.result(pairs_per_step=job.pairs_per_step, warmup=job.warmup)


def best_padded_attention(device: str) -> str:
    """The fastest that `transformers` has for padded batches here."""
    return "flash_attention_2" if device == "cuda" and find_spec("flash_attn") is not None else "sdpa"


SIDES = {
    "ours": lambda job: run_ours(job, "auto"),
    "flex": lambda job: run_ours(job, "auto", ["attention=flex"]),
    "sdpa": lambda job: run_ours(job, "auto", ["attention=sdpa"]),
    "packed": lambda job: run_ours(job, "packed"),
    "padded": lambda job: run_ours(job, "padded"),
    "trl": run_trl,
}
