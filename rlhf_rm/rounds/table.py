"""What rounds of iterated RLHF came to, from what their stages left, as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_rm.files import read_json
from rlhf_rm.judging.base import LOSE, NO_ANSWER, TIE, WIN

Row = dict[str, Any]
# What the table says of each round: a key of its row, a heading, a format.
COLUMNS = (
    ("win", "win", "{:.1%}"),
    ("tie", "tie", "{:.1%}"),
    ("lose", "lose", "{:.1%}"),
    (NO_ANSWER, "no answer", "{:.1%}"),
    ("win_minus_lose", "win − lose", "{:+.1%}"),
    ("gold", "gold", "{:.3f}"),
    ("reward", "reward", "{:.3f}"),
    ("kl", "nats", "{:.2f}"),
    ("accuracy_policy", "accuracy, policy", "{:.3f}"),
    ("accuracy_test", "accuracy, test", "{:.3f}"),
    ("spread", "|r_i − r_j|", "{:.2f}"),
    ("ascent_length", "‖θ′ − θ‖", "{:.4f}"),
    ("ascent_cosine", "cosine", "{:.2f}"),
)


def round_row(number: int, directories: Mapping[str, Path]) -> Row:
    """What one round came to; a key is missing where it was not measured.

    Args:
        number: of the round, from 1.
        directories: of its stages, by their names: ``reward``, ``policy``, ``judgement``, and ``accuracy``
            where gold is known.

    Returns:
        ``win``, ``tie``, ``lose`` (shares against the first policy) and ``win_minus_lose``, each with its
        ``_ci95``; ``no_answer``, the share on which the judge said nothing; ``gold``, ``reward`` (means over
        the test prompts of PPO), ``kl`` (nats a response from where PPO began, in its last iteration);
        ``accuracy_policy`` (by gold, of the reward model on what the policy said before the round) and
        ``accuracy_test`` with their ``_ci95``; ``accuracy_validation``; and of a run of MetaRM ``spread``,
        ``objective``, ``ascent_length``, ``ascent_cosine``, as it logged them last, and ``apart``, the
        quantiles of |r_i − r_j| ``before`` and ``after`` its training (see
        :func:`rlhf_rm.metrics.shifted.spread`).
    """
    row: Row = {"round": number}
    judged = read_json(directories["judgement"] / "judgement.json")
    for name in (WIN, TIE, LOSE, "win_minus_lose"):
        row |= {name: judged[name]["share"], f"{name}_ci95": judged[name]["ci95"]}
    row[NO_ANSWER] = judged[NO_ANSWER]["share"]
    policy = read_json(directories["policy"] / "metrics.json")
    test = policy["sets"].get("test", {})
    row |= {name: test[name] for name in ("gold", "reward") if name in test}
    if policy.get("history"):
        row["kl"] = policy["history"][-1]["kl"]
    reward = read_json(directories["reward"] / "metrics.json")
    if "test" in reward["sets"]:
        tested = reward["sets"]["test"]
        row |= {"accuracy_test": tested["accuracy"], "accuracy_test_ci95": tested["accuracy_ci95"]}
    validation = reward.get("validation", {})
    names = {
        "val/accuracy": "accuracy_validation",
        "val/shifted_spread": "spread",
        "val/shifted_objective": "objective",
        "val/shifted_accuracy_gold": "accuracy_climbed",
    }
    row |= {ours: validation[theirs] for theirs, ours in names.items() if theirs in validation}
    row |= reward.get("ascent", {})
    figures = directories["reward"] / "figures.json"
    shifted = read_json(figures).get("shifted") if figures.is_file() else None
    if shifted is not None:
        row["apart"] = {when: shifted[when]["quantiles"] for when in ("before", "after")}
    if "accuracy" in directories:
        found = read_json(directories["accuracy"] / "evaluation.json")["sets"]["all"]
        row |= {"accuracy_policy": found["accuracy"], "accuracy_policy_ci95": found["accuracy_ci95"]}
    return row


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """The rounds as a table of text under its headings; what no round has measured has no column.

    Neither has the share without an answer where there is none: most judges always answer.
    """
    shown = [
        (key, heading, form)
        for key, heading, form in COLUMNS
        if any(key in row and (key != NO_ANSWER or row[key] > 0) for row in rows)
    ]
    lines = [
        [str(row["round"])] + [form.format(row[key]) if key in row else "" for key, _, form in shown]
        for row in rows
    ]
    return [["round", *(heading for _, heading, _ in shown)], *lines]


def describe(rows: Sequence[Row]) -> str:
    """The rounds as lines of a table."""
    lines = cells(rows)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
