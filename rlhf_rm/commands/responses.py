"""What a policy says to some prompts: written as JSON lines, and in the synthetic world made at first use."""

import json
import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from transformers import PreTrainedTokenizerBase

from rlhf_rm.data.prompts import Prompt, prompts_of
from rlhf_rm.data.types import PreferenceSource
from rlhf_rm.files import cached_directory, fingerprint, write_text
from rlhf_rm.models.attention.base import Attention
from rlhf_rm.models.generate import Generator, Response, Sampling
from rlhf_rm.models.load import load_policy

log = logging.getLogger(__name__)
RESPONSES = "responses.jsonl"  # in a directory of the cache


def drawn(meta: DictConfig) -> int:
    """How many responses to each prompt are drawn for MetaRM to climb on."""
    return int(meta.made.k if meta.k is None else meta.k)


def made_responses(
    source: PreferenceSource,
    start: Path,
    tokenizer: PreTrainedTokenizerBase,
    attention: Attention,
    *,
    cache: Path,
    sampling: Sampling,
    engine: DictConfig,
    k: int,
    prompts: int,
    seed: int,
) -> Path:
    """The file of what a base model answers to its training prompts, made at first use and cached.

    Args:
        source: of the prompts.
        start: directory of the base model.
        tokenizer, attention: of the base model.
        cache: where it is kept, under a name made from everything that it depends on.
        sampling: how answers are drawn.
        engine: the configuration of what draws them; it is made where there is something to draw.
        k: answers to each prompt.
        prompts: the first so many of the training split.
        seed: of the draws.
    """
    drawing = [asdict(sampling), OmegaConf.to_container(engine, resolve=True)]
    key = fingerprint(source.fingerprint(), start.name, drawing, k, prompts, seed)
    directory = cache / "responses" / key

    def draw(made: Path) -> None:
        asked = prompts_of(source, "train")[:prompts]
        log.info("drawing %d responses to %d prompts from the base model, once: %s", k, len(asked), directory)
        policy = load_policy(str(start), attention, device="auto")
        with closing(instantiate(engine)) as drawing:
            generator = Generator(policy.network, tokenizer, sampling, drawing, max_length=policy.max_length)
            found = generator.responses(asked, k, seed=seed)
        write_rows(made / RESPONSES, [row(prompt, some) for prompt, some in zip(asked, found, strict=True)])

    return cached_directory(directory, draw) / RESPONSES


def write_rows(output: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a file of JSON lines."""
    write_text(output, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows))


def row(prompt: Prompt, responses: Sequence[Response]) -> dict[str, Any]:
    """What a line of the file holds."""
    return {
        "prompt": [message._asdict() for message in prompt],
        "responses": [one.text for one in responses],
        "finished": [one.finished for one in responses],
    }
