"""`rlhf-rm judge`: win, tie or lose of one file of responses against another."""

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import Progress

from rlhf_rm.commands.output import results_directory
from rlhf_rm.commands.quiet import quiet
from rlhf_rm.data.prompts import Prompt
from rlhf_rm.data.response_file import read_responses
from rlhf_rm.errors import UserError
from rlhf_rm.files import write_json, write_text
from rlhf_rm.judging.base import LOSE, NO_ANSWER, TIE, VERDICTS, WIN, Comparison, Judge, judged, summarise

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> dict[str, Any]:
    """Judge each response of ``a`` against that of ``b`` and write ``judgement.json`` and ``verdicts.jsonl``.

    Raises:
        UserError: files that cannot be compared, a judge that cannot judge them, or a directory that
            holds a training.
    """
    quiet()
    run_dir = results_directory(cfg)
    a, b = (read_responses(path, cfg.on_bad_row) for path in (cfg.a, cfg.b))
    comparisons = compared(a, b, cfg)
    judge: Judge = instantiate(cfg.judge)
    with Progress(transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("judging", total=len(comparisons))
        verdicts = judged(judge, comparisons, lambda done: bar.advance(task, done))
    summary = summarise(verdicts, [repr(one.messages) for one in comparisons])
    lines = [
        json.dumps(
            {"prompt": [m._asdict() for m in one.messages], "a": one.a, "b": one.b, "verdict": verdict}
        )
        for one, verdict in zip(comparisons, verdicts, strict=True)
    ]
    write_text(run_dir / "verdicts.jsonl", "\n".join(lines) + "\n")
    told = {
        "a": str(cfg.a),
        "b": str(cfg.b),
        "judge": type(judge).__name__,
        "prompts_only_in_a": len(a.keys() - b.keys()),
        "prompts_only_in_b": len(b.keys() - a.keys()),
        **summary,
    }
    write_json(run_dir / "judgement.json", told)
    print(describe(told))
    print(f"judgement  {run_dir / 'judgement.json'}, {run_dir / 'verdicts.jsonl'}")
    return told


def compared(
    a: Mapping[Prompt, list[str]], b: Mapping[Prompt, list[str]], cfg: DictConfig
) -> list[Comparison]:
    """The first response of ``a`` against the first of ``b`` to the same prompt, the second to the second, …

    Raises:
        UserError: no prompt is in both, or one has more responses in one file than in the other.
    """
    both = [prompt for prompt in a if prompt in b]
    if not both:
        raise UserError(f"{cfg.a} and {cfg.b} have no prompt in common: let both answer the same prompts.")
    uneven = [prompt for prompt in both if len(a[prompt]) != len(b[prompt])]
    if uneven:
        one = uneven[0]
        raise UserError(
            f"{len(uneven)} prompts have more responses in one file than in the other, the first of them "
            f"{len(a[one])} and {len(b[one])}: sample as many for each."
        )
    for name, ours, theirs in (("a", a, b), ("b", b, a)):
        left_out = len(ours.keys() - theirs.keys())
        if left_out:
            log.warning("%d prompts are in %s alone, and are left out", left_out, name)
    return [Comparison(prompt, *pair) for prompt in both for pair in zip(a[prompt], b[prompt], strict=True)]


def describe(told: Mapping[str, Any]) -> str:
    """The shares as lines."""
    names = {WIN: "a wins", TIE: "tie", LOSE: "a loses", NO_ANSWER: "no answer"}
    lines = [f"{told['comparisons']:,} comparisons on {told['prompts']:,} prompts"]
    rows = [(names[name], told[name]) for name in VERDICTS] + [("wins less losses", told["win_minus_lose"])]
    for name, found in rows:
        if name == names[NO_ANSWER] and not found["count"]:
            continue
        interval = found["ci95"]
        between = "" if interval is None else f" ({interval[0]:.1%} to {interval[1]:.1%})"
        lines.append(f"{name:<18}{found['share']:7.1%}{between}")
    return "\n".join(lines)
