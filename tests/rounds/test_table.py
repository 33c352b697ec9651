"""What rounds came to, as a table."""

from rlhf_rm.files import write_json
from rlhf_rm.rounds.figures import rounds_figure
from rlhf_rm.rounds.table import cells, round_row


def a_round(directory, no_answer=0.0, tested=True):
    """The files of a round, of which a judge has answered all but a share."""
    shares = {"win": 0.5, "tie": 0.25, "lose": 0.25 - no_answer, "no_answer": no_answer}
    judged = {name: {"share": share, "ci95": None} for name, share in shares.items()}
    test = {"accuracy": 0.75, "accuracy_ci95": [0.5, 1.0]}
    write_json(directory / "judgement/judgement.json", judged | {"win_minus_lose": judged["win"]})
    for part, measured in (("reward", test), ("policy", {"reward": 1.0})):
        write_json(directory / part / "metrics.json", {"sets": {"test": measured} if tested else {}})
    return {part: directory / part for part in ("judgement", "reward", "policy")}


def test_what_a_judge_did_not_answer_is_a_column_where_there_is_any(tmp_path):
    rows = [round_row(i + 1, a_round(tmp_path / str(i), share)) for i, share in enumerate((0.0, 0.125))]
    assert [row["no_answer"] for row in rows] == [0.0, 0.125]
    told = [dict(zip(*some, strict=True)) for some in (cells(rows[:1]), cells(rows)[::2])]
    assert "no answer" not in told[0] and told[0]["lose"] == "25.0%"
    assert told[1]["no answer"] == "12.5%"


def test_rounds_without_a_test_have_what_is_left(tmp_path):
    row = round_row(1, a_round(tmp_path, tested=False))
    assert not {"accuracy_test", "accuracy_test_ci95", "reward"} & set(row) and row["win"] == 0.5
    assert cells([row])[0] == ["round", "win", "tie", "lose", "win − lose"]
    assert len(rounds_figure([row]).axes) == 1
    tested = round_row(2, a_round(tmp_path / "tested"))
    assert len(rounds_figure([tested]).axes) == 3 and len(rounds_figure([row, tested]).axes) == 2
