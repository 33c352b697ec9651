"""What figures over groups show is what the runs say."""

import pytest

from rlhf_rm.report import figures, numbers
from rlhf_rm.report.runs import TrainedRun, grouped


def run(tmp_path, accuracy, curve=(), drawn=None, **overrides):
    told = {key.replace("__", "."): str(value) for key, value in overrides.items()}
    points = [(10 * (i + 1), value) for i, value in enumerate(curve)]
    metrics = {"accuracy": accuracy, "accuracy_longer_chosen": 0.9, "accuracy_longer_rejected": accuracy}
    return TrainedRun(
        tmp_path, told, metrics, {"val/accuracy": points, "train/loss": points}, drawn=drawn or {}
    )


def test_curves_have_a_line_for_each_group_over_the_steps_that_all_seeds_have(tmp_path):
    runs = [
        run(tmp_path, 0.5, curve=(0.4, 0.6, 0.5)[: 2 + seed], seed=seed, denoise=d)
        for seed in (0, 1)
        for d in "ab"
    ]
    found = numbers.curves(grouped(runs), "val/accuracy")
    assert [(one["name"], one["steps"], one["mean"]) for one in found["groups"]] == [
        ("a", [10, 20], [0.4, 0.6]),
        ("b", [10, 20], [0.4, 0.6]),
    ]
    assert len(figures.curves(found).axes[0].lines) == 2
    assert numbers.curves(grouped(runs), "val/loss") is None


def test_slices_are_those_of_the_runs_beside_the_papers(tmp_path):
    key = "denoise__recipe__steps__slice__"
    runs = [
        run(tmp_path, 0.1 * number, seed=seed, **{f"{key}number": number, f"{key}flip": flip})
        for seed in (1, 2)
        for number in (2, 0, 1)
        for flip in ("false", "true")
    ]
    found = numbers.by_slice(grouped(runs), "accuracy")
    axes = figures.by_slice(found).axes[0]
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) == 3}
    assert drawn == {"as labelled": [0.0, 0.1, 0.2], "flipped": [0.0, 0.1, 0.2]}
    assert any(
        line.get_label() == "the paper's, HH-RLHF" and line.get_ydata()[0] == 0.327 for line in axes.lines
    )
    assert numbers.by_slice(grouped([run(tmp_path, 0.5, seed=1)]), "accuracy") is None


def test_slices_are_named_by_what_their_runs_were_told_and_not_by_what_varies(tmp_path):
    def found(*told, beside=()):
        slices = [
            run(tmp_path, 0.1 * number, seed=1, denoise__recipe__steps__slice__number=number, **one)
            for one in told
            for number in (1, 0)
        ]
        shown = numbers.by_slice(grouped([*slices, *beside]), "accuracy")
        return shown and {label: (line["tenths"], line["mean"]) for label, line in shown["lines"].items()}

    flip, of = (f"denoise__recipe__steps__slice__{name}" for name in ("flip", "of"))
    line = ([1, 2], [0.0, 0.1])
    assert found({flip: "True"}) == {"flipped": line}
    assert found({"data__flip_rate": 0, flip: "true"}, {"data__flip_rate": 0.2}) == {
        "as labelled, flip_rate=0.2": line,
        "flipped, flip_rate=0": line,
    }
    assert found({"data__flip_rate": 0.2}, {}) == {"as labelled": line, "as labelled, flip_rate=0.2": line}
    assert found({flip: "false"}, {of: 10}) == {"as labelled": line}  # what they are if nothing is told
    plain = run(tmp_path, 0.5, seed=1, denoise="none")
    assert found({"denoise": "slice"}, beside=[plain]) == {"as labelled": line}
    assert found({of: 5}, {}) == {"as labelled": line} and found({of: 5}) is None


def test_comparisons_leave_out_groups_without_the_metric_and_need_two(tmp_path):
    runs = [run(tmp_path, 0.5 + seed / 10, seed=seed, denoise=d) for seed in (1, 2) for d in "ab"]
    found = numbers.comparison(grouped(runs), "accuracy")
    assert [one["each"] for one in found["groups"]] == [[0.6, 0.7], [0.6, 0.7]]
    bars = [line for line in figures.comparison(found).axes[0].lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in bars] == pytest.approx([0.65, 0.65])
    bias = numbers.length_bias(grouped(runs))
    assert bias["groups"][0]["accuracy_longer_chosen"]["mean"] == 0.9
    assert numbers.comparison(grouped(runs), "gold") is None
    assert numbers.comparison(grouped(runs[:1]), "accuracy") is None


def test_reliability_is_that_of_the_pairs_of_all_seeds_together(tmp_path):
    def bins(pairs, accuracy):
        one = {"from": 0.5, "to": 0.6, "pairs": pairs, "confidence": 0.55, "accuracy": accuracy}
        return {"sets": {"test": {"reliability": {"bins": [one]}}}}

    runs = [run(tmp_path, 0.5, drawn=bins(10, 0.0), seed=1, denoise=d) for d in "ab"]
    runs += [run(tmp_path, 0.5, drawn=bins(30, 1.0), seed=2, denoise=d) for d in "ab"]
    first, _ = numbers.reliability(grouped(runs))["groups"]
    assert first["bins"] == [{"from": 0.5, "to": 0.6, "pairs": 40, "confidence": 0.55, "accuracy": 0.75}]
    assert numbers.reliability(grouped([*runs[:3], run(tmp_path, 0.5, seed=2, denoise="b")])) is None


def test_single_steps_are_smoothed_and_long_curves_thinned_to_their_end(tmp_path):
    values = [float(i % 2) for i in range(1000)]
    (line,) = numbers.lines(run(tmp_path, 0.5, curve=values), {"train/loss": "training"})["lines"]
    assert line["name"] == "training, mean of 83 logged steps"
    assert max(abs(value - 0.5) for value in line["values"]) < 0.01 and line["steps"][-1] == 10_000
    assert 200 < len(line["steps"]) <= numbers.POINTS
    few = run(tmp_path, 0.5, curve=values[:90])
    (whole,) = numbers.lines(few, {"val/accuracy": "validation"})["lines"]
    assert whole["values"] == values[:90] and whole["name"] == "validation"
    assert numbers.lines(run(tmp_path, 0.5), {"val/accuracy": "validation"}) is None
