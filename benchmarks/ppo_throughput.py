"""Prompts a second of whole PPO iterations, against TRL's RLOOTrainer and a plain padded loop, in one run.

    python benchmarks/ppo_throughput.py --data hh.jsonl.gz --json out.json

An iteration answers --prompts prompts --k times each, scores the answers, and takes one optimiser step on
all of them. RLOO has no critic, so it does less. All sides start from the same policy and reward model (of
random weights, so that hardly any response ends before --new-tokens), and take the same prompts in one order.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from flops import matrix_peak, useful_flops
from hydra.utils import instantiate
from measure import Recorder, machine
from omegaconf import DictConfig
from sides import PLAIN_TRL, Job
from transformers import AutoConfig
from turns import bars, say_how_busy, take_turns

from rlhf_rm.commands.build import build_run, build_tokenizer
from rlhf_rm.data.packing import Tree
from rlhf_rm.data.prompts import PromptDataModule
from rlhf_rm.data.sampling import StepSampler
from rlhf_rm.data.template import render
from rlhf_rm.models.spec import ModelSpec
from rlhf_rm.models.tokenizer import load_tokenizer, save_tokenizer

WHAT = {
    "ours": "this project: PPO, actor and critic, packed by prompt",
    "trl": "TRL's RLOOTrainer: no critic, padded",
    "plain": "PPO as a plain loop: every response whole, padded",
}
# Forward passes over every token of an iteration that there are at least: the policy speaks, the reward model
# and the reference read; a critic reads too; and what is trained takes three.
PASSES = {"ours": 10, "trl": 6, "plain": 10}
LEARNING_RATE = 1e-5
KL_WEIGHT = 0.05


@dataclass(frozen=True)
class Size:
    """How large an iteration is."""

    prompts: int
    k: int
    new_tokens: int


def prepare(job: Job, size: Size) -> list[str]:
    """Write policy, reward model and tokenizer; returns the prompts' texts in training order."""
    cfg = job.config(overrides=["method=reward"])
    torch.manual_seed(0)
    spec: ModelSpec = instantiate(cfg.model)
    attention = instantiate(cfg.attention)
    source = instantiate(cfg.data)
    tokenizer = build_tokenizer(spec, source, Path(cfg.paths.cache_dir))
    directory = Path(job.directory)
    for name, network in (
        ("policy", spec.language_model(tokenizer, attention).network),
        ("reward", spec.reward_model(tokenizer, attention).network),
    ):
        network.save_pretrained(directory / name)
        save_tokenizer(tokenizer, directory / name)
    datamodule = build_run(config(job, size)).datamodule
    assert isinstance(datamodule, PromptDataModule)
    prompts = datamodule.prompts("train")
    order = StepSampler(datamodule.sizes(prompts), batch_size=size.prompts, seed=cfg.seed)
    taken = [prompts[i] for step in islice(order, job.steps) for i in step]
    return render(tokenizer, taken, add_generation_prompt=True)


def flops_an_iteration(start: Path, texts: list[str], size: Size, response_tokens: float, side: str) -> float:
    """Operations that an iteration needs at least, each prompt's tokens computed once."""
    tokenizer = load_tokenizer(start / "policy")
    trees = []
    for prompt in map(len, tokenizer(texts).input_ids):
        branch = np.zeros(prompt + round(response_tokens), np.int32)
        trees.append(Tree((branch,) * size.k, prompt, (prompt,) * size.k))
    config = AutoConfig.from_pretrained(start / "policy")
    return PASSES[side] / 3 * useful_flops(config, trees) * size.prompts / len(texts)


def config(job: Job, size: Size) -> DictConfig:
    """The training command's configuration of this project's side."""
    start = Path(job.directory)
    return job.config(
        overrides=[
            "method=ppo",
            f"model.path={start / 'policy'}",
            "model.architecture=null",
            "model.vocab_size=null",
            f"ppo.reward={start / 'reward'}",
            f"ppo.k={size.k}",
            "ppo.minibatches=1",
            "ppo.passes=1",
            f"ppo.shaping.kl_weight={KL_WEIGHT}",
            f"sampling.max_new_tokens={size.new_tokens}",
            f"optimizer.lr={LEARNING_RATE}",
            f"ppo.objective.critic_learning_rate={LEARNING_RATE}",
            "loader.too_long=drop",
        ]
    )


def run_ours(job: Job, size: Size) -> dict[str, Any]:
    """This project: PPOModule under Lightning."""
    cfg = config(job, size)
    run = job.build(cfg)
    recorder = Recorder()

    class Record(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
            if trainer.global_step == 0:
                recorder.begin()

        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            recorder.end_step(float(trainer.callback_metrics["train/length"]))

    trainer: L.Trainer = instantiate(cfg.trainer, callbacks=[Record()])
    trainer.fit(run.module, datamodule=run.datamodule)
    return recorder.result(pairs_per_step=size.prompts, warmup=job.warmup)


def run_trl(job: Job, size: Size) -> dict[str, Any]:
    """TRL's RLOOTrainer."""
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl import RLOOConfig, RLOOTrainer

    start = Path(job.directory)
    recorder = Recorder()

    class Record(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 0:
                recorder.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            recorder.end_step(trainer._metrics["train"]["completions/mean_length"][-1])

    settings = RLOOConfig(
        output_dir=f"{job.directory}/trl",
        per_device_train_batch_size=size.prompts * size.k,
        num_generations=size.k,
        steps_per_generation=1,
        num_iterations=1,
        max_steps=job.steps,
        max_completion_length=size.new_tokens,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        beta=KL_WEIGHT,
        learning_rate=LEARNING_RATE,
        max_grad_norm=1.0,
        shuffle_dataset=False,
        use_cpu=True,
        **PLAIN_TRL,
    )
    trainer = RLOOTrainer(
        model=AutoModelForCausalLM.from_pretrained(start / "policy", dtype=torch.float32),
        reward_funcs=AutoModelForSequenceClassification.from_pretrained(
            start / "reward", dtype=torch.float32
        ),
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": json.loads((start / "prompts.json").read_text())}),
        processing_class=AutoTokenizer.from_pretrained(start / "policy"),
        reward_processing_classes=AutoTokenizer.from_pretrained(start / "reward"),
        callbacks=[Record()],
    )
    trainer.train()
    return recorder.result(pairs_per_step=size.prompts, warmup=job.warmup)


def run_plain(job: Job, size: Size) -> dict[str, Any]:
    """PPO as one would write it down: left-padded prompts, every response whole, nothing shared."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    from rlhf_rm.functional.ppo import generalised_advantages, policy_loss, token_rewards, value_loss

    start = Path(job.directory)
    tokenizer = AutoTokenizer.from_pretrained(start / "policy", padding_side="left")
    actor, reference = (AutoModelForCausalLM.from_pretrained(start / "policy") for _ in range(2))
    critic, reward = (AutoModelForSequenceClassification.from_pretrained(start / "reward") for _ in range(2))
    optimizer = torch.optim.AdamW([*actor.parameters(), *critic.parameters()], lr=LEARNING_RATE)
    texts = json.loads((start / "prompts.json").read_text())
    torch.manual_seed(0)
    recorder = Recorder()
    recorder.begin()
    for step in range(job.steps):
        prompts = texts[step * size.prompts : (step + 1) * size.prompts]
        asked = tokenizer(prompts, return_tensors="pt", padding=True)
        width = asked.input_ids.shape[1]
        with torch.no_grad():
            ids = actor.generate(
                **asked,
                max_new_tokens=size.new_tokens,
                do_sample=True,
                top_k=0,
                num_return_sequences=size.k,
            )
        response = ids[:, width:]
        ended = response == tokenizer.eos_token_id
        length_N = torch.where(ended.any(1), ended.int().argmax(1) + 1, response.shape[1])
        own_NT = torch.arange(response.shape[1]) < length_N[:, None]
        mask = torch.cat([asked.attention_mask.repeat_interleave(size.k, 0), own_NT.long()], 1)

        def log_probs(network: Any, ids: Any = ids, mask: Any = mask, width: int = width) -> torch.Tensor:
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            logits = network(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                logits_to_keep=ids.shape[1] - width + 1,
            ).logits[:, :-1]
            return logits.log_softmax(-1).gather(2, ids[:, width:, None]).squeeze(2)

        def values(ids: Any = ids, mask: Any = mask, width: int = width) -> torch.Tensor:
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            hidden = critic.model(
                input_ids=ids, attention_mask=mask, position_ids=positions
            ).last_hidden_state
            return critic.score(hidden[:, width - 1 : -1]).squeeze(2)

        with torch.no_grad():
            spoken = tokenizer.batch_decode(response, skip_special_tokens=True)
            whole = [p + r for p, r in zip([p for p in prompts for _ in range(size.k)], spoken, strict=True)]
            score_N = reward(**tokenizer(whole, return_tensors="pt", padding=True)).logits.squeeze(1)
            old_NT, before_NT, value_NT = log_probs(actor), log_probs(reference), values()
            reward_NT = token_rewards(score_N, old_NT - before_NT, length_N, kl_weight=KL_WEIGHT)
            advantage_NT = generalised_advantages(
                reward_NT, value_NT, length_N, discount=1.0, trace_decay=0.95
            )
            return_NT = advantage_NT + value_NT
            advantage_NT = (advantage_NT - advantage_NT[own_NT].mean()) / advantage_NT[own_NT].std()
        loss_NT = policy_loss(log_probs(actor), old_NT, advantage_NT, clip=0.2)
        loss_NT = loss_NT + 0.5 * value_loss(values(), value_NT, return_NT, clip=0.2)
        optimizer.zero_grad()
        loss_NT[own_NT].mean().backward()
        for network in (actor, critic):
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        recorder.end_step(float(length_N.float().mean()))
    return recorder.result(pairs_per_step=size.prompts, warmup=job.warmup)


SIDES = {"ours": run_ours, "trl": run_trl, "plain": run_plain}


def main() -> int:
    """Entry of the script; returns the exit status."""
    args = arguments()
    if args.side:
        job = Job.load(args.job)
        size = Size(**json.loads((Path(job.directory) / "size.json").read_text()))
        Path(args.json).write_text(json.dumps(SIDES[args.side](job, size)))
        return 0
    about, size = machine(), Size(args.prompts, args.k, args.new_tokens)
    with tempfile.TemporaryDirectory() as directory:
        job = Job(
            overrides=("data=hh", f"data.path={args.data.resolve()}", f"model={args.model}"),
            directory=directory,
            pairs_per_step=size.prompts,
            steps=args.iterations,
            warmup=args.warmup,
        )
        texts = prepare(job, size)
        (Path(directory) / "prompts.json").write_text(json.dumps(texts))
        (Path(directory) / "size.json").write_text(json.dumps(asdict(size)))
        runs = take_turns(__file__, job.save(), args.sides, args.rounds)
        peak = matrix_peak("cpu", torch.float32)
        sides = {side: summary(rounds, size) for side, rounds in runs.items()}
        for side, figures in sides.items():
            needed = flops_an_iteration(Path(directory), texts, size, figures["tokens_a_response"], side)
            figures["share_of_matrix_peak"] = figures["prompts_per_second"] / size.prompts * needed / peak
    report = {
        "benchmark": "ppo_throughput",
        "machine": about,
        "settings": {
            **asdict(size),
            "model": args.model,
            "iterations": args.iterations,
            "rounds": args.rounds,
        },
        "matrix_peak_flops": peak,
        "sides": sides,
    }
    args.json.write_text(json.dumps(report, indent=1) + "\n")
    bars(
        {side: figures["prompts_per_second"] for side, figures in report["sides"].items()},
        f"prompts a second, {args.model}",
        args.json.with_suffix(".png"),
    )
    print_report(report, size.k)
    return 0


def summary(rounds: list[dict[str, Any]], size: Size) -> dict[str, Any]:
    """Medians over the rounds, iteration by iteration."""
    seconds = [statistics.median(step) for step in zip(*(run["step_seconds"] for run in rounds), strict=True)]
    return {
        "prompts_per_second": size.prompts * len(seconds) / sum(seconds),
        "tokens_a_response": statistics.mean(length for run in rounds for length in run["losses"]),
        "memory_above_mb": statistics.median(run["memory_above_mb"] for run in rounds),
        "cores_busy_with_other_work": max(run["cores_busy_with_other_work"] for run in rounds),
        "rounds": rounds,
    }


def print_report(report: dict[str, Any], k: int) -> None:
    """Print the figures."""
    sides = report["sides"]
    say_how_busy(max(side["cores_busy_with_other_work"] for side in sides.values()))
    ours = sides["ours"]["prompts_per_second"]
    for side, figures in sides.items():
        print(
            f"  {WHAT[side]:<54}{figures['prompts_per_second']:7.2f} prompts/s"
            f"{figures['prompts_per_second'] * k * figures['tokens_a_response']:8,.0f} response tokens/s"
            f"{figures['share_of_matrix_peak']:7.1%} of the matrix peak"
            f"{figures['memory_above_mb']:7.0f} MB{figures['tokens_a_response']:7.1f} tokens a response"
            + ("" if side == "ours" else f"   ratio {ours / figures['prompts_per_second']:.2f}")
        )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="HH dialogues, plain or .gz")
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--model", default="llama_12m", help="a file of conf/model")
    parser.add_argument("--prompts", type=int, default=8, help="of an iteration")
    parser.add_argument("--k", type=int, default=4, help="responses to each")
    parser.add_argument("--new-tokens", type=int, default=48, help="most tokens of a response")
    parser.add_argument("--iterations", type=int, default=6, help="of each run, the warm-up included")
    parser.add_argument("--warmup", type=int, default=2, help="first iterations, left out of the speed")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.json or not (args.side or args.data):
        parser.error("--data and --json are needed")
    return args


if __name__ == "__main__":
    sys.exit(main())
