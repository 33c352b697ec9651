"""`rlhf-rm sample`: k responses to each prompt from a policy, or the best of them by a reward model."""

import logging
import math
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import Progress

from rlhf_rm.commands.evaluate import data_config
from rlhf_rm.commands.output import check_output
from rlhf_rm.commands.quiet import quiet
from rlhf_rm.commands.responses import row, write_rows
from rlhf_rm.data.encode import DialogueEncoder
from rlhf_rm.data.packing import Packing
from rlhf_rm.data.prompts import Prompt, prompts_of
from rlhf_rm.data.types import PreferenceSource
from rlhf_rm.data.world.source import WorldSource
from rlhf_rm.errors import UserError
from rlhf_rm.methods.scoring import response_rewards
from rlhf_rm.models.generate import Engine, Generator, Response, Sampling
from rlhf_rm.models.load import LoadedReward, length_within, load_policy, load_reward_model

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> None:
    """Write JSON lines of ``prompt`` and ``responses``.

    Raises:
        UserError: no such policy, data or reward model, or settings out of their range.
    """
    quiet()
    if not isinstance(cfg.k, int) or cfg.k < 1:
        raise UserError(f"k={cfg.k} is how many responses each prompt gets: a whole number of at least 1.")
    if cfg.limit is not None and (not isinstance(cfg.limit, int) or cfg.limit < 1):
        raise UserError(f"limit={cfg.limit} is how many prompts are answered: at least 1, or null for all.")
    sampling: Sampling = instantiate(cfg.sampling)
    output = Path(cfg.output)
    check_output(output)
    policy = load_policy(
        cfg.run,
        instantiate(cfg.attention),
        device=cfg.device,
        template=cfg.template,
        trust_remote_code=cfg.trust_remote_code,
    )
    source: PreferenceSource = instantiate(data_config(cfg, cfg.run))
    prompts = prompts_of(source, cfg.set)[: cfg.limit]
    # What is asked of the responses in the end fails before they are drawn, if it fails.
    world = world_of(source) if cfg.gold else None
    judge = reward_model(cfg) if cfg.best_of is not None else None
    engine: Engine
    with (
        closing(instantiate(cfg.engine)) as engine,
        Progress(transient=True, disable=not sys.stdout.isatty()) as bar,
    ):
        max_length = length_within(cfg.max_length, policy.max_length)
        generator = Generator(policy.network, policy.tokenizer, sampling, engine, max_length=max_length)
        began = time.perf_counter()
        task = bar.add_task("sampling", total=len(prompts))
        found = generator.responses(prompts, cfg.k, seed=cfg.seed, advance=lambda n: bar.advance(task, n))
    seconds = time.perf_counter() - began
    rows = [row(prompt, some) for prompt, some in zip(prompts, found, strict=True)]
    if world is not None:
        rows = with_gold(rows, prompts, world)
    if judge is not None:
        rows = best(cfg, judge, prompts, rows)
    write_rows(output, rows)
    _tell(found, generator.cut, seconds, cfg, output)


def world_of(source: PreferenceSource) -> WorldSource:
    """The source, as one that knows the true reward.

    Raises:
        UserError: it is no synthetic world.
    """
    if not isinstance(source, WorldSource):
        raise UserError(f"gold=true knows the truth of data=synthetic only, and not of {source.name} data.")
    return source


def reward_model(cfg: DictConfig) -> LoadedReward:
    """What picks the best response.

    Raises:
        UserError: there is none, or it is no reward model.
    """
    return load_reward_model(
        cfg.best_of,
        instantiate(cfg.attention),
        device=cfg.device,
        template="auto",
        trust_remote_code=cfg.trust_remote_code,
    )


def with_gold(
    rows: Sequence[dict[str, Any]], prompts: Sequence[Prompt], world: WorldSource
) -> list[dict[str, Any]]:
    """The rows with the true reward of each response: preferences which `data=jsonl` reads."""
    return [
        one | {"scores": [world.gold(prompt, text) for text in one["responses"]]}
        for prompt, one in zip(prompts, rows, strict=True)
    ]


def best(
    cfg: DictConfig, loaded: LoadedReward, prompts: Sequence[Prompt], rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The rows with nothing but their response of the highest reward, and all rewards."""
    layout = loaded.model.backbone.choose_layout(cfg.loader.layout)
    pad_id = loaded.tokenizer.pad_token_id
    rewards = response_rewards(
        loaded.model,
        DialogueEncoder(loaded.tokenizer, max_length=loaded.max_length, too_long=cfg.loader.too_long),
        Packing(
            layout,
            cfg.loader.row_tokens,
            cfg.loader.micro_tokens,
            pad_id,
            row_multiple=cfg.loader.row_multiple,
        ),
        [(prompt, text) for prompt, one in zip(prompts, rows, strict=True) for text in one["responses"]],
    ).mean(1)
    chosen = []
    for one, reward_K in zip(rows, rewards.view(len(rows), -1), strict=True):
        k = int(reward_K.argmax())
        kept = {name: [one[name][k]] for name in ("responses", "finished", "scores") if name in one}
        chosen.append(one | kept | {"rewards": reward_K.tolist()})
    return chosen


def best_of_n_kl(n: int) -> float:
    """At most how far best-of-n is from the policy, in nats: log n − (n − 1) / n.

    Source: Stiennon et al. 2020 (arXiv 2009.01325); it is reached where no two responses are equal
    (Beirami et al. 2024, arXiv 2401.01879).
    """
    return math.log(n) - (n - 1) / n


def _tell(found: list[list[Response]], cut: int, seconds: float, cfg: DictConfig, output: Path) -> None:
    everyone = [one for some in found for one in some]
    tokens = sum(len(one.ids) for one in everyone)
    unfinished = sum(not one.finished for one in everyone)
    print(
        f"{len(everyone):,} responses to {len(found):,} prompts, "
        f"{tokens / len(everyone):.1f} tokens on average, {tokens / seconds:,.0f} tokens/s"
    )
    if unfinished:
        print(
            f"{unfinished:,} of them ({unfinished / len(everyone):.0%}) did not end within "
            f"sampling.max_new_tokens={cfg.sampling.max_new_tokens}"
        )
    if cut:
        log.warning("%d prompts were longer than the model takes and lost their beginning", cut)
    if cfg.best_of is not None:
        print(
            f"the best of {cfg.k} by {cfg.best_of} is at most {best_of_n_kl(cfg.k):.2f} nats from the policy"
        )
    print(f"samples  {output}")
