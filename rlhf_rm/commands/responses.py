"""What a policy says to some prompts: written as JSON lines, and in the synthetic world made at first use."""

import json
import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from rlhf_rm.data.prompts import Prompt, prompts_of
from rlhf_rm.data.types import PreferenceSource
from rlhf_rm.files import fingerprint, write_text
from rlhf_rm.models.attention import Attention
from rlhf_rm.models.generate import Generator, Response, Sampling
from rlhf_rm.models.load import load_policy
from rlhf_rm.models.transformers_engine import TransformersEngine

log = logging.getLogger(__name__)
BATCH_TOKENS = 16384


def made_responses(
    source: PreferenceSource,
    start: Path,
    tokenizer: PreTrainedTokenizerBase,
    attention: Attention,
    *,
    cache: Path,
    sampling: Sampling,
    k: int | None,
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
        k: answers to each prompt; None for 5.
        prompts: the first so many of the training split.
        seed: of the draws.
    """
    count = k or 5
    key = fingerprint(source.fingerprint(), start.name, asdict(sampling), count, prompts, seed)
    path = cache / "responses" / f"{key}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Runs of a sweep may start together: one makes it, the others wait.
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            asked = prompts_of(source, "train")[:prompts]
            log.info(
                "drawing %d responses to %d prompts from the base model, once: %s", count, len(asked), path
            )
            policy = load_policy(str(start), attention, device="auto")
            with closing(TransformersEngine(batch_tokens=BATCH_TOKENS)) as engine:
                generator = Generator(
                    policy.network, tokenizer, sampling, engine, max_length=policy.max_length
                )
                found = generator.responses(asked, count, seed=seed)
            write_rows(path, [row(prompt, some) for prompt, some in zip(asked, found, strict=True)])
    return path


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
