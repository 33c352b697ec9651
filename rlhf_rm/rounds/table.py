"""What rounds of iterated RLHF came to: one table and one figure, from what their stages left."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_rm.files import read_json
from rlhf_rm.judging.base import LOSE, TIE, WIN
from rlhf_rm.plots import BLUE, GREEN, GREY, INK, ORANGE, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]
# What the table says of each round: a key of its row, a heading, a format.
COLUMNS = (
    ("win", "win", "{:.1%}"),
    ("tie", "tie", "{:.1%}"),
    ("lose", "lose", "{:.1%}"),
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
        ``_ci95``; ``gold``, ``reward`` (means over the test prompts of PPO), ``kl`` (nats a response from
        where PPO began, in its last iteration); ``accuracy_policy`` (by gold, of the reward model on what the
        policy said before the round) and ``accuracy_test`` with their ``_ci95``; ``accuracy_validation``; and
        what a run of MetaRM logged last: ``spread``, ``objective``, ``ascent_length``, ``ascent_cosine``.
    """
    row: Row = {"round": number}
    judged = read_json(directories["judgement"] / "judgement.json")
    for name in (WIN, TIE, LOSE, "win_minus_lose"):
        row |= {name: judged[name]["share"], f"{name}_ci95": judged[name]["ci95"]}
    policy = read_json(directories["policy"] / "metrics.json")
    test = policy["sets"]["test"]
    row |= {name: test[name] for name in ("gold", "reward") if name in test}
    if policy.get("history"):
        row["kl"] = policy["history"][-1]["kl"]
    reward = read_json(directories["reward"] / "metrics.json")
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
    if "accuracy" in directories:
        found = read_json(directories["accuracy"] / "evaluation.json")["sets"]["all"]
        row |= {"accuracy_policy": found["accuracy"], "accuracy_policy_ci95": found["accuracy_ci95"]}
    return row


def describe(rows: Sequence[Row]) -> str:
    """The rounds as lines of a table; what no round has measured has no column."""
    shown = [(key, heading, form) for key, heading, form in COLUMNS if any(key in row for row in rows)]
    cells = [["round", *(heading for _, heading, _ in shown)]]
    for row in rows:
        cells.append(
            [str(row["round"])] + [form.format(row[key]) if key in row else "" for key, _, form in shown]
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells
    )


def rounds_figure(rows: Sequence[Row]) -> "Figure":
    """Win, tie and lose by round, the reward model's accuracy, and gold beside reward where it is known."""
    number = [row["round"] for row in rows]
    panels = [_outcomes, _accuracies] + ([_scores] if all("reward" in row for row in rows) else [])
    figure = new_figure((4.6 * len(panels), 4.2))
    for axes, draw in zip(figure.subplots(1, len(panels)), panels, strict=True):
        draw(axes, rows)
        axes.set_xticks(number)
        axes.set_xlabel("round")
    return figure


def _outcomes(axes: Any, rows: Sequence[Row]) -> None:
    style(axes, "Against the first policy")
    number = [row["round"] for row in rows]
    bottom = [0.0] * len(rows)
    for name, colour in ((WIN, GREEN), (TIE, "#d8d8d4"), (LOSE, ORANGE)):
        share = [row[name] for row in rows]
        axes.bar(number, share, bottom=bottom, color=colour, width=0.62, label=name)
        for x, y, height in zip(number, bottom, share, strict=True):
            if height > 0.05:
                axes.text(x, y + height / 2, f"{height:.0%}", ha="center", va="center", fontsize=9, color=INK)
        bottom = [y + height for y, height in zip(bottom, share, strict=True)]
    axes.set(ylim=(0, 1), ylabel="share of the comparisons")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False, fontsize=9)


def _accuracies(axes: Any, rows: Sequence[Row]) -> None:
    style(axes, "Accuracy of the reward model")
    lines = (
        ("accuracy_policy", "on the policy's responses, by gold", BLUE),
        ("accuracy_test", "on the original test pairs", GREY),
    )
    for name, label, colour in lines:
        found = [(row["round"], row[name], row[f"{name}_ci95"]) for row in rows if name in row]
        if not found:
            continue
        x, y = [one[0] for one in found], [one[1] for one in found]
        axes.plot(x, y, "o-", color=colour, label=label, markersize=5)
        for at, _, interval in found:
            if interval is not None:
                axes.plot([at, at], interval, color=colour, linewidth=1.4)
    axes.set_ylabel("accuracy, with 95 % intervals")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=9)


def _scores(axes: Any, rows: Sequence[Row]) -> None:
    style(axes, "What the policy gets")
    number = [row["round"] for row in rows]
    axes.plot(number, [row["reward"] for row in rows], "o-", color=BLUE, label="reward model of the round")
    if all("gold" in row for row in rows):
        axes.plot(number, [row["gold"] for row in rows], "o-", color=ORANGE, label="gold")
    axes.set_ylabel("mean over the test prompts")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=9)
