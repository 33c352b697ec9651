"""`rlhf-rm score`: rewards for a JSONL file of prompts and responses."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import Progress
from torch import Tensor

from rlhf_rm.commands.output import check_output
from rlhf_rm.commands.quiet import quiet
from rlhf_rm.data.encode import Dialogue, DialogueEncoder
from rlhf_rm.data.messages import parse_prompt, response_text
from rlhf_rm.data.packing import Packing
from rlhf_rm.data.reading import BadRowError, read_rows
from rlhf_rm.files import write_bytes
from rlhf_rm.methods.scoring import response_rewards
from rlhf_rm.models.load import length_within, load_reward_model


def run(cfg: DictConfig) -> None:
    """Write each row of ``input`` again with its ``reward``, in the same order.

    Raises:
        UserError: no such run, a bad row, an output that cannot be written.
    """
    quiet()
    output = Path(cfg.output)
    check_output(output)
    rows = read_rows(cfg.input, lambda row, _: [parse_row(row)], on_bad_row=cfg.on_bad_row)
    loaded = load_reward_model(
        cfg.run,
        instantiate(cfg.attention),
        device=cfg.device,
        template=cfg.template,
        trust_remote_code=cfg.trust_remote_code,
    )
    max_length = length_within(cfg.max_length, loaded.max_length)
    encoder = DialogueEncoder(loaded.tokenizer, max_length=max_length, too_long=cfg.loader.too_long)
    layout = loaded.model.backbone.choose_layout(cfg.loader.layout)
    packing = Packing(
        layout,
        cfg.loader.row_tokens,
        cfg.loader.micro_tokens,
        loaded.tokenizer.pad_token_id,
        row_multiple=cfg.loader.row_multiple,
    )
    with Progress(transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("scoring", total=len(rows.items))
        rewards = response_rewards(
            loaded.model,
            encoder,
            packing,
            [dialogue for _, dialogue in rows.items],
            lambda n: bar.advance(task, n),
        )
    lines = [
        json.dumps(with_reward(row, scores), ensure_ascii=False) + "\n"
        for (row, _), scores in zip(rows.items, rewards, strict=True)
    ]
    text = "".join(lines).encode()
    write_bytes(output, gzip.compress(text) if output.suffix == ".gz" else text)
    skipped = f", {rows.skipped} bad rows skipped" if rows.skipped else ""
    print(f"{len(lines)} rewards (mean {float(rewards.mean()):.3f}{skipped}): {output}")


def scored(score_M: Tensor) -> dict[str, float]:
    """What a row gets: the reward, and of an ensemble the mean and the members' standard deviation."""
    reward = {"reward": float(score_M.mean())}
    return reward | ({"reward_std": float(score_M.std(correction=0))} if len(score_M) > 1 else {})


def with_reward(row: dict[str, Any], score_M: Tensor) -> dict[str, Any]:
    """A row with its reward in the place of any that it brings, whose deviation would be another model's."""
    return {name: value for name, value in row.items() if name != "reward_std"} | scored(score_M)


def parse_row(row: dict[str, Any]) -> tuple[dict[str, Any], Dialogue]:
    """The row itself, and its prompt with its response.

    Raises:
        BadRowError: a missing field, a wrong type, or what cannot be written again as JSON.
    """
    for name in ("prompt", "response"):
        if name not in row:
            raise BadRowError(f'the field "{name}" is missing; a row needs "prompt" and "response".')
    if not isinstance(row["response"], str):
        raise BadRowError(f'"response" must be text, not {type(row["response"]).__name__}.')
    _refuse_no_json(row)
    return row, (parse_prompt(row["prompt"]), response_text(row["prompt"], row["response"]))


def _refuse_no_json(row: dict[str, Any]) -> None:
    """Refuse a value that Parquet holds and the output, which is JSON, cannot.

    Raises:
        BadRowError: there is one.
    """
    for name, value in row.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            raise BadRowError(
                f'"{name}" holds {type(value).__name__}, which JSON cannot: make the column text, or '
                "leave it out."
            ) from None
