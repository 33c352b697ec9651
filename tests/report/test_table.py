import pytest

from rlhf_rm.errors import UserError
from rlhf_rm.report.groups import row, sections
from rlhf_rm.report.runs import TrainedRun, grouped, read_run
from rlhf_rm.report.table import estimate, metric_of, over_seeds, paired


def run(tmp_path, accuracy, curve=(), **overrides):
    told = {key.replace("__", "."): str(value) for key, value in overrides.items()}
    points = [(10 * (i + 1), value) for i, value in enumerate(curve)]
    return TrainedRun(tmp_path, told, {"accuracy": accuracy}, {"val/accuracy": points})


def test_the_interval_is_students():
    found = estimate([0.70, 0.74, 0.72])
    # t(0.975, 2) = 4.3027; the standard error is 0.02 / sqrt(3).
    assert found.mean == pytest.approx(0.72) and found.seeds == 3
    assert found.high - found.mean == pytest.approx(4.302653 * 0.02 / 3**0.5, rel=1e-5)
    assert estimate([0.5]).low is None


def test_groups_differ_in_what_varies_and_not_in_the_seed(tmp_path):
    runs = [
        run(tmp_path, 0.5 + 0.1 * seed, seed=seed, denoise=denoise, method="denoised", data__seed=seed,
            denoise__strengths=f"votes/{seed}")
        for denoise in ("none", "flip")
        for seed in (1, 2)
    ]  # fmt: skip
    groups = grouped(runs)
    assert [group.name for group in groups] == ["none", "flip"]
    assert all(len(group.runs) == 2 for group in groups)
    with pytest.raises(UserError, match="have the same settings and seed"):
        grouped([*runs, runs[0]])


def test_a_number_is_one_setting_however_it_is_typed(tmp_path):
    typed = {"1": "5e-4", "2": "0.0005", "3": "1e-3"}
    runs = [run(tmp_path, 0.5, seed=seed, lr=lr, trainer="[1, x]") for seed, lr in typed.items()]
    groups = grouped(runs)
    assert [(group.name, list(group.runs)) for group in groups] == [("5e-4", ["1/", "2/"]), ("1e-3", ["3/"])]
    with pytest.raises(UserError, match="have the same settings and seed"):
        grouped([*runs, run(tmp_path, 0.5, seed="1", lr="0.00050", trainer="[1, x]")])


def test_names_of_groups_have_as_much_of_a_key_as_tells_it_from_others(tmp_path):
    flip, soft = (f"denoise__recipe__steps__{name}__where__below" for name in ("flip", "soft"))
    told = [
        {"loss": "hinge", flip: 0.2},
        {"loss": "hinge", soft: 0.2},
        {"loss": "hinge", "where__below": 0.2},
        {},
    ]
    names = [group.name for group in grouped([run(tmp_path, 0.5, **one) for one in told])]
    assert names == [
        "loss=hinge, flip.where.below=0.2",
        "loss=hinge, soft.where.below=0.2",
        "loss=hinge, where.below=0.2",
        "defaults",
    ]
    alone = grouped([run(tmp_path, 0.5, **one) for one in ({"loss": "defaults"}, {})])
    assert [group.name for group in alone] == ["loss=defaults", "defaults"]


def test_two_votes_on_one_world_are_two_groups(tmp_path):
    def groups(worlds):
        return grouped(
            [
                run(tmp_path, 0.5, seed=1, data__seed=world, denoise__strengths=f"votes/{vote}")
                for vote in "ab"
                for world in worlds
            ]
        )

    assert [(group.name, list(group.runs)) for group in groups([1])] == [
        ("votes/a", ["1/1"]),
        ("votes/b", ["1/1"]),
    ]
    assert [(group.name, list(group.runs)) for group in groups([1, 2])] == [
        ("votes/a", ["1/1", "1/2"]),
        ("votes/b", ["1/1", "1/2"]),
    ]


def test_differences_are_taken_seed_by_seed(tmp_path):
    baseline = [run(tmp_path, value, seed=seed, denoise="none") for seed, value in enumerate((0.2, 0.5, 0.8))]
    better = [run(tmp_path, value, seed=seed, denoise="flip") for seed, value in enumerate((0.3, 0.6, 0.9))]
    first, second = grouped([*baseline, *better])
    found = paired(second, first, "accuracy")
    assert found.mean == pytest.approx(0.1) and found.high - found.low < 1e-9
    assert over_seeds(second, "accuracy").high - over_seeds(second, "accuracy").low > 1


def test_best_and_lost_are_of_the_curve(tmp_path):
    one = run(tmp_path, 0.5, curve=(0.5, 0.8, 0.7), seed=1)
    assert metric_of(one, "best val/accuracy") == 0.8
    assert metric_of(one, "lost val/accuracy") == pytest.approx(0.1)
    assert metric_of(one, "lost val/nothing") is None


@pytest.mark.parametrize("known", ["gold", "gpt4", "planted"])
def test_what_is_known_of_the_labels_has_columns_and_a_curve(artefacts, tmp_path, known):
    directories = [artefacts.write_run(tmp_path / str(seed), seed, known=known) for seed in (1, 2)]
    groups = grouped([read_run(path, {"seed": str(i)}) for i, path in enumerate(directories)])
    runs, curves = sections(groups, [row(group, None) for group in groups], None)
    wanted = [f"{kind}val/accuracy_{known}" for kind in ("", "best ", "lost ")]
    assert [name for name in runs.tables[0].head if f"accuracy_{known}" in name] == wanted
    assert f"val_accuracy_{known}_curves" in [plot.name for plot in curves.plots]
