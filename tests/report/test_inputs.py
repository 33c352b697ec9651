"""What an input is, is told by its files; what is none or damaged is told in one sentence."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from rlhf_rm.commands.report import as_typed, told
from rlhf_rm.data.strengths import from_members, write_strengths
from rlhf_rm.errors import UserError
from rlhf_rm.report import evaluations, judgements, rounds, votes
from rlhf_rm.report import run as one_run
from rlhf_rm.report.inputs import find_inputs, short_names
from rlhf_rm.report.runs import grouped, read_run


def test_kinds_are_told_by_files_in_directories_sweeps_and_globs(artefacts, tmp_path):
    artefacts.write_run(tmp_path / "sweep/0")
    artefacts.write_run(tmp_path / "sweep/1", 2)
    artefacts.write_started(tmp_path / "sweep/2", ["seed=3"])
    artefacts.write_vote(tmp_path / "all/vote")
    artefacts.write_rounds(tmp_path / "all/rounds", 1)
    artefacts.write_evaluation(tmp_path / "all/evaluation")
    artefacts.write_judgement(tmp_path / "all/judgement")
    (tmp_path / "all/nothing").mkdir()
    artefacts.write_started(tmp_path / "sweep/.hydra", [])
    (tmp_path / "all/file.txt").touch()
    found = find_inputs([str(tmp_path / "sweep"), str(tmp_path / "all/*"), str(tmp_path / "sweep/1")])
    assert [(kind, path.name) for kind, path in found.found] == [
        ("run", "0"),
        ("run", "1"),
        ("evaluation", "evaluation"),
        ("judgement", "judgement"),
        ("rounds", "rounds"),
        ("vote", "vote"),
    ]
    assert [path.name for path in found.unfinished] == ["2"]
    assert [path.name for path in found.unknown] == ["nothing"]


@pytest.mark.parametrize("inputs", ["", "/*"])
def test_runs_come_by_their_numbers_and_names(tmp_path, inputs):
    names = [*map(str, range(12)), "flip_margin", "lr=2", "lr=10", "none"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text("{}")
    assert [path.name for _, path in find_inputs([f"{tmp_path}{inputs}"]).found] == names


def test_a_baseline_is_found_however_hydra_reads_its_name():
    names = ["1e-3", "64", "false", "none", "lr=[1,2] x"]
    for asked, name in ((0.001, "1e-3"), (64, "64"), (False, "false"), ("none", "none"), ("1e-3", "1e-3")):
        assert as_typed(asked, names) == name
    assert as_typed(None, names) is None
    assert as_typed(0.5, names) == "0.5"


def test_names_are_as_long_as_they_must_be(tmp_path):
    a, b, c = (tmp_path / name for name in ("x/one", "y/one", "y/two"))
    assert list(short_names([a, c]).values()) == ["one", "two"]
    assert list(short_names([a, b]).values()) == ["x/one", "y/one"]
    assert list(short_names([tmp_path / "p/a_b", tmp_path / "q/a-b"]).values()) == ["p/a_b", "q/a-b"]


def test_groups_of_names_that_are_nearly_the_same_keep_their_own_figures_and_anchors(
    artefacts, report, tmp_path
):
    key = "denoise.recipe.steps.flip.where.weaker_than"
    values = ("-0.5", "0.5", "0.5 2")
    for seed, value in enumerate(values):
        artefacts.write_run(tmp_path / f"runs/{seed}", seed, overrides=[f"{key}={value}"])
    made = report(tmp_path / "runs")
    figures = json.loads((made / "report.json").read_text())["figures"]
    shown = [figures[f"run_{name}_test_margins"] for name in ("0_5", "0_5_2", "0_5_2_2")]
    for seed, margins in enumerate(shown):
        own = json.loads((tmp_path / f"runs/{seed}/figures.json").read_text())["sets"]["test"]["margins"]
        assert margins == own
    page = (made / "report.html").read_text()
    anchors = re.findall(r" id='([^']*)'", page)
    assert len(set(anchors)) == len(anchors) and {"run_0_5", "run_0_5_2", "run_0_5_2_2"} <= set(anchors)
    assert set(re.findall("href=[\"']#([^\"']*)", page)) <= set(anchors)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("absent/*", "inputs=absent/* matches no directory: give a run (metrics.json), a vote"),
        ("empty", "inputs=empty names nothing that a report reads (empty has no such file): give a run"),
        ("begun", "none of the 1 runs and rounds that inputs names is finished"),
    ],
)
def test_what_is_nothing_known_is_told_with_what_is(artefacts, tmp_path, monkeypatch, pattern, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    artefacts.write_started(tmp_path / "begun", [])
    with pytest.raises(UserError) as raised:
        find_inputs([pattern])
    assert message in str(raised.value) and "\n" not in str(raised.value)


READ = {
    "metrics.json": ("write_run", lambda path: read_run(path, {})),
    "metrics.csv": ("write_run", lambda path: read_run(path, {})),
    "overrides.yaml": ("write_run", told),
    "config.yaml": ("write_run", lambda path: read_run(path, {})),
    "figures.json": ("write_run", lambda path: one_run.section(read_run(path, {}), "x", "run_x")),
    "worth_reading.jsonl": ("write_vote", lambda path: votes.section(path, "x")),
    "manifest.json": ("write_vote", lambda path: votes.section(path, "x")),
    "strengths.parquet": ("write_vote", lambda path: votes.section(path, "x")),
    "rounds.json": ("write_rounds", lambda path: rounds.section(path, "x")),
    "evaluation.json": ("write_evaluation", lambda path: evaluations.section(path, "x")),
    "judgement.json": ("write_judgement", lambda path: judgements.section({path: "x"})),
}


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("damage", ["cut", "other", "list", "bytes"])
def test_a_damaged_file_is_named(artefacts, tmp_path, name, damage):
    make, read = READ[name]
    file = getattr(artefacts, make)(tmp_path / "it") / name
    whole = file.read_bytes()
    contents = {
        "cut": whole[: len(whole) // 2],
        "other": b'{"x": 1}\n',
        "list": b"[1, 2]\n",
        "bytes": b"\xff\xfe\0",
    }
    file.write_bytes(contents[damage])
    if (name, damage) == ("config.yaml", "other"):
        file.write_bytes(b"data: 3\n")
    if name == "metrics.csv":
        file.write_bytes(b"step,val/accuracy\n10,much\n" if damage != "bytes" else b"step,a\n1,\xff\n")
    with pytest.raises(UserError) as raised:
        read(tmp_path / "it")
    assert name in str(raised.value) and str(tmp_path / "it") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_a_run_was_told_is_read_as_it_was_typed(artefacts, tmp_path):
    typed = ["seed=1", "+data.path=${oc.env:HOME}/a=b", "denoise=", "~callbacks.throughput"]
    artefacts.write_started(tmp_path / "it", typed)
    assert told(tmp_path / "it") == {"seed": "1", "data.path": "${oc.env:HOME}/a=b", "denoise": ""}
    assert told(tmp_path) == {"run": str(tmp_path)}


def test_a_seed_that_was_left_at_its_default_is_the_same_seed(artefacts, tmp_path):
    told = {
        "a": {"loss": "hinge", "seed": "1"},
        "b": {"loss": "logexp"},
        "c": {"loss": "logexp", "seed": "2"},
    }
    runs = [
        read_run(artefacts.write_run(tmp_path / name, int(one.get("seed", 1))), {**one, "traceback": name})
        for name, one in told.items()
    ]
    first, second = grouped(runs)
    assert (first.name, second.name) == ("hinge", "logexp")
    assert first.runs.keys() < second.runs.keys()
    with pytest.raises(UserError, match="have the same settings and seed"):
        grouped([*runs, read_run(tmp_path / "b", {"loss": "logexp", "seed": "1", "loader.workers": "0"})])


def test_a_name_with_two_dollars_is_shown_as_it_is(artefacts, report, tmp_path):
    for seed, name in enumerate(("a$\\frac$", "b")):
        artefacts.write_run(tmp_path / f"runs/{seed}", overrides=[f"wandb.group={name}"])
    made = report(tmp_path / "runs")
    assert "a$\\frac$" in (made / "report.html").read_text()
    assert (made / "accuracy.png").is_file()


def test_a_set_that_was_trained_on_says_so(artefacts, tmp_path):
    evaluation = artefacts.write_evaluation(tmp_path / "it")
    before, _ = evaluations.section(evaluation, "x")
    kept = json.loads((evaluation / "evaluation.json").read_text())
    kept["sets"]["test"]["trained_on"] = 7
    (evaluation / "evaluation.json").write_text(json.dumps(kept))
    after, _ = evaluations.section(evaluation, "x")
    assert list(after.tables[0].head) == [*before.tables[0].head, "pairs it was trained on"]
    assert [line[-1] for line in after.tables[0].rows] == ["7", "–"]


def test_inputs_that_keep_little_are_reported_with_what_they_have(artefacts, tmp_path):
    run = artefacts.write_run(tmp_path / "run")
    vote = artefacts.write_vote(tmp_path / "vote", gold=False)
    for directory, names in (
        (run, ("figures.json", "worth_reading.jsonl")),
        (vote, ("manifest.json", "worth_reading.jsonl")),
    ):
        for name in names:
            (directory / name).unlink()
    section = one_run.section(read_run(run, {}), "old", "run_old")
    assert "kept no figures.json" in section.lead
    assert [plot.name for plot in section.plots] == ["run_old_accuracy_curves", "run_old_loss_curves"]
    section, summary = votes.section(vote, "bare")
    means = from_members(["a", "b"], np.array([[0.1, 0.2]]))
    write_strengths(vote, replace(means, members_MB=means.members_MB[:0]))
    others, _ = votes.section(vote, "means")
    assert "how strong several reward models" in others.lead and others.facts[0].note == ""
    assert "no pairs to read" in section.lead and summary["pairs"] == artefacts.PAIRS
    assert [plot.name for plot in section.plots] == ["vote_bare_strength", "vote_bare_std"]
    bare = rounds.section(artefacts.write_rounds(tmp_path / "rounds"), "x")
    names = [plot.name.removeprefix("rounds_x_") for plot in bare[0].plots]
    assert names == ["outcomes", "accuracy", "scores", "spread", "gold_against_proxy"]
    kept = json.loads((tmp_path / "rounds/rounds.json").read_text())
    for row in kept["rounds"]:
        for key in ("apart", "reward", "gold"):
            del row[key]
    (tmp_path / "rounds/rounds.json").write_text(json.dumps(kept))
    for number in range(3):
        (tmp_path / f"rounds/round_{number:02d}/policy/metrics.json").unlink()
    section, _ = rounds.section(tmp_path / "rounds", "x")
    assert [plot.name for plot in section.plots] == ["rounds_x_outcomes", "rounds_x_accuracy"]


def test_a_run_on_several_responses_a_prompt_shows_its_best_of_n(artefacts, tmp_path):
    table = one_run.section(read_run(artefacts.write_run(tmp_path / "run"), {}), "one", "run_one").tables[0]
    assert ["best of n", "0.600 (0.500 to 0.700)"] in table.rows


def test_policies_without_gold_have_no_figure_of_it(artefacts, tmp_path):
    names = {}
    for gold in (True, False):
        run = read_run(artefacts.write_policy(tmp_path / str(gold), gold=gold), {})
        names[gold] = {plot.name.removeprefix("run_p_") for plot in one_run.section(run, "p", "run_p").plots}
    assert names[True] - names[False] == {"gold_against_proxy"}
    assert names[False] == {"reward", "kl", "length", "explained_variance"}
