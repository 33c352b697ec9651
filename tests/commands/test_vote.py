"""`rlhf-rm vote` over real runs, from the command line."""

import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("members")


@pytest.fixture
def members(rlhf_rm, small, runs):
    """Three members of the small world, trained once."""
    if not (runs / "plain").exists():
        ended = rlhf_rm("train", "-m", *small, "seed=1,2,3", f"hydra.sweep.dir={runs}/plain")
        assert ended.code == 0, ended.err
    return f"{runs}/plain/*"


@pytest.fixture
def folded(rlhf_rm, small, runs):
    """Two members of two models each, every one trained without a fold of its own."""
    if not (runs / "folds").exists():
        folds = ["seed=1,2", "method.datamodule.folds=2", "method.datamodule.held_out_fold=0,1"]
        ended = rlhf_rm("train", "-m", *small, *folds, f"hydra.sweep.dir={runs}/folds")
        assert ended.code == 0, ended.err
    return f"{runs}/folds/*"


def strengths_of(directory):
    return pq.read_table(directory / "strengths.parquet").to_pydict()


def test_a_vote_leaves_strengths_figures_and_a_manifest(rlhf_rm, members, runs, tmp_path):
    ended = rlhf_rm("vote", f"members={members}", f"hydra.run.dir={tmp_path}")
    assert ended.code == 0, ended.err
    table = strengths_of(tmp_path)
    scores = np.array([table[f"member_0{m}"] for m in range(3)])
    assert np.allclose(scores.mean(0), table["mean"]) and np.allclose(scores.std(0), table["std"])
    assert len(table["pair_id"]) == 40 and scores.std(0).min() > 0
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [models[0]["run"] for models in manifest["members"]] == [
        str(runs / "plain" / str(m)) for m in range(3)
    ]
    assert manifest["data"]["sets"] == ["train"] and manifest["summary"]["reference"] == "gold"
    assert {path.name for path in tmp_path.glob("*.png")} == {"strength.png", "std.png", "agreement.png"}
    assert "40 pairs, 3 members" in ended.out and "AUROC" in ended.out
    # The same numbers as `evaluate` has, by another way.
    again = rlhf_rm(
        "evaluate", f"run={runs}/plain/0", "evaluate.sets=[train]", f"hydra.run.dir={tmp_path}/evaluation"
    )
    assert again.code == 0, again.err
    margin = json.loads((tmp_path / "evaluation/evaluation.json").read_text())["sets"]["train"]["mean_margin"]
    assert margin == pytest.approx(float(scores[0].mean()), abs=1e-5)


def test_members_that_were_scored_are_not_scored_again(rlhf_rm, members, runs, tmp_path, monkeypatch):
    first = rlhf_rm("vote", f"members=[{runs}/plain/0,{runs}/plain/1]", f"hydra.run.dir={tmp_path}")
    assert first.out.count("pairs of train scored") == 2
    second = rlhf_rm("vote", f"members={members}", f"hydra.run.dir={tmp_path}")
    assert second.out.count("pairs of train scored") == 1 and f"{runs}/plain/2: 40 pairs" in second.out
    assert len(strengths_of(tmp_path)) == 3 + 3


def test_cross_fitting_scores_each_pair_without_having_seen_it(rlhf_rm, folded, runs, tmp_path):
    ended = rlhf_rm("vote", f"members={folded}", "fold=2", f"hydra.run.dir={tmp_path}")
    assert ended.code == 0, ended.err
    table = strengths_of(tmp_path)
    assert [name for name in table if name.startswith("member_")] == ["member_00", "member_01"]
    from rlhf_rm.data.splits import fold_of
    from rlhf_rm.data.trained_on import trained_on
    from rlhf_rm.data.world.source import WorldSource

    sizes = {"train_pairs": 40, "validation_pairs": 10, "test_pairs": 12, "shifted_pairs": 4}
    pairs = WorldSource(seed=0, flip_rate=0.0, demonstrations=40, **sizes).pairs("train")
    assert [pair.pair_id for pair in pairs] == table["pair_id"]
    fold = fold_of([pair.prompt_id for pair in pairs], 2)
    assert 5 < fold.sum() < 35
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    for models in manifest["members"]:
        for number, model in enumerate(models):
            from pathlib import Path

            seen = trained_on(Path(model["model"]), table["pair_id"])
            assert seen.tolist() == (fold != number).tolist()


def test_each_pair_is_scored_once_by_the_model_without_its_fold(rlhf_rm, folded, runs, tmp_path):
    ended = rlhf_rm("vote", f"members={folded}", "fold=2", "sets=[test]", f"hydra.run.dir={tmp_path}/cross")
    assert ended.code == 0, ended.err
    # None of the models was trained on the test pairs: as members of their own they score all of them.
    alone = rlhf_rm("vote", f"members={folded}", "sets=[test]", f"hydra.run.dir={tmp_path}/alone")
    assert alone.code == 0, alone.err
    from rlhf_rm.data.splits import fold_of
    from rlhf_rm.data.world.source import WorldSource

    sizes = {"train_pairs": 40, "validation_pairs": 10, "test_pairs": 12, "shifted_pairs": 4}
    pairs = WorldSource(seed=0, flip_rate=0.0, demonstrations=40, **sizes).pairs("test")
    fold = fold_of([pair.prompt_id for pair in pairs], 2)
    assert 0 < fold.sum() < 12
    cross, models = strengths_of(tmp_path / "cross"), strengths_of(tmp_path / "alone")
    for member in (0, 1):
        expected = [models[f"member_0{2 * member + model}"][i] for i, model in enumerate(fold)]
        assert cross[f"member_0{member}"] == pytest.approx(expected, abs=1e-5)
    scored = [int(count) for count in re.findall(r"(\d+) pairs of test scored", ended.out)]
    assert len(scored) == 4 and sum(scored) == 2 * 12


def test_the_folds_of_one_member_are_known_in_a_directory_of_any_name(folded, runs, tmp_path):
    from rlhf_rm.commands.members import find_members

    there = tmp_path / 'jörg "1"'
    shutil.copytree(runs / "folds", there)
    for file in there.glob("*/config.yaml"):
        config = json.dumps(OmegaConf.to_container(OmegaConf.load(file)))
        new = json.dumps(str(there))[1:-1]
        OmegaConf.save(json.loads(config.replace(str(runs / "folds"), new)), file)
    assert [len(models) for models in find_members([f"{there}/*"], 2)] == [2, 2]


def test_models_without_a_fold_vote_on_what_they_saw_only_by_folds(rlhf_rm, folded, runs, tmp_path):
    ended = rlhf_rm("vote", f"members={folded}", f"hydra.run.dir={tmp_path}/vote")
    assert ended.code == 2 and "folds/0 was trained without fold 0, so with fold=none it would" in ended.err
    shutil.copytree(runs / "folds", tmp_path / "folds")
    (tmp_path / "folds/2/export/trained_on.npy").unlink()
    ended = rlhf_rm("vote", f"members={tmp_path}/folds/*", "fold=2", f"hydra.run.dir={tmp_path}/vote")
    assert ended.code == 2 and "folds/2 does not say what it was trained on" in ended.err
    assert not (tmp_path / "vote/strengths.parquet").exists()


def test_pairs_that_would_be_left_out_are_refused_first(rlhf_rm, members, tmp_path, monkeypatch):
    monkeypatch.setattr("rlhf_rm.commands.member_scores.pair_differences", None)
    short = ["max_length=70", "loader.too_long=drop", f"hydra.run.dir={tmp_path}"]
    ended = rlhf_rm("vote", f"members={members}", *short)
    assert ended.code == 2 and "loader.too_long=drop leaves them out" in ended.err, ended.err


def test_figures_of_a_vote_before_do_not_stay(tmp_path):
    from rlhf_rm.commands.vote import show
    from rlhf_rm.data.strengths import from_members
    from rlhf_rm.data.types import Message, PreferencePair
    from rlhf_rm.voting.summary import summarise

    pairs = [PreferencePair((Message("user", str(i)),), "a", "b") for i in range(30)]
    strengths = from_members([pair.pair_id for pair in pairs], np.linspace(-1, 2, 60).reshape(2, 30))
    (tmp_path / "agreement.png").touch()
    show(tmp_path, strengths, pairs, summarise(strengths, {}), "Vote")
    assert {path.name for path in tmp_path.glob("*.png")} == {"strength.png", "std.png"}


def test_a_fold_that_was_resumed_elsewhere_is_still_of_its_member(rlhf_rm, small, folded, runs, tmp_path):
    shutil.copytree(runs / "folds", tmp_path / "folds")
    file = tmp_path / "folds/1/config.yaml"
    told = file.read_text()
    other = told.replace("resume: null", "resume: auto").replace("workers: null", "workers: 0")
    file.write_text(re.sub(r"cache_dir: .*", "cache_dir: /elsewhere", other))
    assert file.read_text() != told
    ended = rlhf_rm("vote", f"members={tmp_path}/folds/*", "fold=2", f"hydra.run.dir={tmp_path}/vote")
    assert ended.code == 0, ended.err
    shutil.copytree(tmp_path / "folds/1", tmp_path / "folds/9")
    weights = tmp_path / "folds/9/export/model.safetensors"
    state = load_file(weights)
    save_file({name: value + 1 for name, value in state.items()}, weights, metadata={"format": "pt"})
    ended = rlhf_rm("vote", f"members={tmp_path}/folds/*", "fold=2")
    assert ended.code == 2 and "are the same member without fold 1: name one of them" in ended.err


def test_a_member_that_says_the_dialogue_otherwise_is_scored_again(rlhf_rm, members, runs, tmp_path):
    shutil.copytree(runs / "plain", tmp_path / "runs")
    told = [f"members={tmp_path}/runs/*", f"hydra.run.dir={tmp_path}/vote"]
    assert rlhf_rm("vote", *told).code == 0
    before = strengths_of(tmp_path / "vote")["mean"]
    for template in (tmp_path / "runs").glob("*/export/chat_template.jinja"):
        template.write_text("so: " + template.read_text())
    ended = rlhf_rm("vote", *told)
    assert ended.code == 0 and ended.out.count("pairs of train scored") == 3
    assert strengths_of(tmp_path / "vote")["mean"] != before


def test_scores_that_were_damaged_are_made_again(rlhf_rm, members, runs, tmp_path):
    told = [f"members={members}", f"hydra.run.dir={tmp_path}"]
    assert rlhf_rm("vote", *told).code == 0
    before = strengths_of(tmp_path)
    first, second, _ = sorted(tmp_path.glob("members/*/differences.npy"))
    first.write_bytes(first.read_bytes()[:50])
    np.save(second, np.full((1, 40), np.nan))
    ended = rlhf_rm("vote", *told)
    assert ended.code == 0 and ended.out.count("pairs of train scored") == 2
    assert strengths_of(tmp_path) == before


def test_a_run_whose_data_has_changed_is_refused_unless_data_is_named(
    rlhf_rm, small, members, runs, tmp_path
):
    other = [*small, "data.seed=1", "seed=7", f"hydra.run.dir={tmp_path}/other"]
    assert rlhf_rm("train", *other).code == 0
    told = [f"members=[{runs}/plain/0,{runs}/plain/1,{tmp_path}/other]"]
    ended = rlhf_rm("vote", *told)
    assert ended.code == 2 and f"the first of them {tmp_path}/other: leave them out" in ended.err
    world = [one for one in small if one.startswith("data.")]
    ended = rlhf_rm("vote", *told, "data=synthetic", *world, f"hydra.run.dir={tmp_path}/vote")
    assert ended.code == 0, ended.err


def test_what_is_damaged_in_a_member_is_named(rlhf_rm, members, runs, tmp_path):
    def ended(name, harm):
        shutil.copytree(runs / "plain", tmp_path / name)
        harm(tmp_path / name / "1")
        return rlhf_rm("vote", f"members={tmp_path}/{name}/*", f"hydra.run.dir={tmp_path}/vote_{name}")

    def cut(file):
        file.write_bytes(file.read_bytes()[:200])

    def spoil(file):
        state = load_file(file)
        save_file({name: value * float("nan") for name, value in state.items()}, file, {"format": "pt"})

    harms = {
        "not numbers": (
            lambda run: spoil(run / "export/model.safetensors"),
            "/1: the model gives",
        ),
        "weights": (
            lambda run: cut(run / "export/model.safetensors"),
            "no reward model could be loaded from",
        ),
        "config": (
            lambda run: (run / "config.yaml").write_text("method: [\n"),
            "is damaged and cannot be read",
        ),
        "empty": (
            lambda run: (run / "config.yaml").write_text("seed: 1\n"),
            "does not hold what this version",
        ),
        "known": (lambda run: cut(run / "export/trained_on.npy"), "trained_on.npy does not hold what"),
        "model": (lambda run: cut(run / "export/config.json"), "config.json does not hold what"),
        "none": (lambda run: (run / "export/model.safetensors").unlink(), "1 has no weights: there is no"),
    }
    for name, (harm, message) in harms.items():
        found = ended(name, harm)
        assert found.code == 2 and message in found.err and found.err.count("\n") == 1, (name, found.err)
        assert not (tmp_path / f"vote_{name}/strengths.parquet").exists()


def test_a_fold_that_is_missing_is_named(rlhf_rm, folded, runs, tmp_path):
    ended = rlhf_rm("vote", f"members=[{runs}/folds/0,{runs}/folds/1,{runs}/folds/2]", "fold=2")
    assert ended.code == 2 and "lacks the models without fold 1" in ended.err


def test_a_model_that_saw_its_fold_is_refused(rlhf_rm, folded, runs, tmp_path):
    shutil.copytree(runs / "folds", tmp_path / "folds")
    for seed in (0, 2):
        one, other = (tmp_path / "folds" / str(seed + i) / "export/trained_on.npy" for i in (0, 1))
        shutil.copy(one, other)
    ended = rlhf_rm("vote", f"members={tmp_path}/folds/*", "fold=2")
    assert ended.code == 2 and "of the fold that it should have left out" in ended.err


def test_members_that_disagree_on_the_template_are_refused(rlhf_rm, members, runs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(runs / "plain/1/export", other)
    file = other / "chat_template.jinja"
    if file.exists():
        file.write_text(file.read_text() + " ")
    config = json.loads((other / "tokenizer_config.json").read_text())
    if "chat_template" in config:
        config["chat_template"] += " "
        (other / "tokenizer_config.json").write_text(json.dumps(config))
    ended = rlhf_rm("vote", f"members=[{runs}/plain/0,{other}]")
    assert ended.code == 2 and "have different chat templates" in ended.err
    both = f"members=[{runs}/plain/0,{other}]"
    ended = rlhf_rm("vote", both, "template=hh", f"hydra.run.dir={tmp_path}/vote")
    assert ended.code == 0, ended.err


def test_members_of_different_tokenizers_vote_each_with_its_own(rlhf_rm, small, members, runs, tmp_path):
    other = [*small, "model.vocab_size=310", "seed=9", f"hydra.run.dir={tmp_path}/other"]
    assert rlhf_rm("train", *other).code == 0
    both = f"members=[{runs}/plain/0,{tmp_path}/other]"
    ended = rlhf_rm("vote", both, f"hydra.run.dir={tmp_path}/vote")
    assert ended.code == 0, ended.err
    table = strengths_of(tmp_path / "vote")
    for member, run in enumerate((runs / "plain/0", tmp_path / "other")):
        told = [f"run={run}", "evaluate.sets=[train]", f"hydra.run.dir={tmp_path}/evaluation_{member}"]
        assert rlhf_rm("evaluate", *told).code == 0
        found = json.loads((tmp_path / f"evaluation_{member}/evaluation.json").read_text())
        mean = float(np.mean(table[f"member_0{member}"]))
        assert found["sets"]["train"]["mean_margin"] == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize(
    "command", ["vote members=[{0},{1}]", "evaluate run={1}", "judge judge=gold a=x.jsonl b=y.jsonl"]
)
def test_the_directory_of_a_training_is_not_written_over(rlhf_rm, members, runs, command):
    here = runs / "plain" / "0"
    before = {path: path.read_bytes() for path in here.glob("*.*") if path.is_file()}
    words = command.format(here, runs / "plain" / "1").split()
    ended = rlhf_rm(*words, f"hydra.run.dir={here}")
    assert ended.code == 2 and f"{here} holds a training" in ended.err
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["members={runs}/plain/0"], "a vote takes at least 2 members, but members="),
        (["members={runs}/no*"], "matches no directory"),
        (["members=[{runs}/plain/0,{runs}/plain/0]"], "/plain/0 twice: each model has one vote"),
        (["members=[{runs}/plain/0,{runs}/plain/0/export]"], "twice, as {runs}/plain/0/export too: each"),
        (["members=null"], "a vote takes at least 2 members, but members="),
        (["members={runs}/plain/*", "fold=1"], "fold=1 is neither none nor a number of folds"),
        (["members={runs}/plain/*", "fold=2"], "was not trained with 2 folds (folds=1"),
        (["members={runs}/plain/*", "sets=[nope]"], "sets=['nope'] is not in synthetic data"),
        (["members={runs}/plain/*", "sets=5"], "sets=['5'] is not in synthetic data"),
        (["members=5"], "5 does not exist: name a run directory"),
        (["members=[0,1]"], "0 does not exist: name a run directory"),
        (["members={runs}/plain/*", "max_length=abc"], "max_length=abc must be a whole number of at least 1"),
        (["members={runs}/plain/*", "max_length=0"], "max_length=0 must be a whole number of at least 1"),
        (["members={runs}/plain/*", "device=gpu"], "device=gpu cannot take the model"),
    ],
)
def test_bad_input_is_one_sentence(rlhf_rm, members, runs, overrides, message):
    ended = rlhf_rm("vote", *(one.format(runs=runs) for one in overrides))
    assert ended.code == 2 and message.format(runs=runs) in ended.err
    assert ended.err.count("\n") == 1


def test_runs_with_brackets_in_their_names_are_found_and_a_split_without_pairs_is_refused(
    rlhf_rm, members, runs, tmp_path
):
    (tmp_path / "lr[1]").symlink_to(runs / "plain")
    rows = [{"prompt": f"say {i}", "chosen": "yes", "rejected": "no"} for i in range(9)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = ["data=jsonl", f"data.path={tmp_path}/pairs.jsonl", "data.validation_fraction=0"]
    named = f"members=['{tmp_path}/lr[1]/0','{tmp_path}/lr[1]/1']"
    ended = rlhf_rm("vote", named, *data, "sets=[train,validation]", f"hydra.run.dir={tmp_path}/vote")
    assert ended.code == 2 and "data has no pairs in validation: leave it out of sets=" in ended.err
    assert not (tmp_path / "vote" / "strengths.parquet").exists()
    ended = rlhf_rm("vote", named, *data, "sets=[train]", f"hydra.run.dir={tmp_path}/vote")
    assert ended.code == 0, ended.err


def test_a_vote_is_what_denoised_training_reads(rlhf_rm, small, members, tmp_path):
    assert rlhf_rm("vote", f"members={members}", f"hydra.run.dir={tmp_path}/vote").code == 0
    recipe = ["method=denoised", "denoise=vote_target", f"denoise.strengths={tmp_path}/vote"]
    ended = rlhf_rm("train", *small, *recipe, f"hydra.run.dir={tmp_path}/run")
    assert ended.code == 0, ended.err
    assert 0 < json.loads((tmp_path / "run/metrics.json").read_text())["data"]["denoise"]["mean_target"] < 1


def test_evaluation_by_strength_joins_the_vote(rlhf_rm, members, runs, tmp_path):
    assert rlhf_rm("vote", f"members={members}", f"hydra.run.dir={tmp_path}/vote").code == 0
    told = [
        f"run={runs}/plain/0",
        f"evaluate.strengths={tmp_path}/vote",
        f"hydra.run.dir={tmp_path}/evaluation",
    ]
    ended = rlhf_rm("evaluate", *told, "evaluate.sets=[train]")
    assert ended.code == 0, ended.err
    bins = json.loads((tmp_path / "evaluation/evaluation.json").read_text())["sets"]["train"]["by_strength"]
    assert [one["pairs"] for one in bins] == [4] * 10
    mean = sorted(strengths_of(tmp_path / "vote")["mean"])
    assert bins[0]["strengths"] == pytest.approx([mean[0], mean[3]])
    ended = rlhf_rm("evaluate", *told, "evaluate.sets=[test]")
    assert ended.code == 2 and "12 of 12 test pairs have no strength" in ended.err
