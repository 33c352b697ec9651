import json

import pytest

from rlhf_rm.data.jsonl import JsonlSource
from rlhf_rm.data.types import SPLITS
from rlhf_rm.errors import UserError


def row(prompt, chosen="good", **more):
    return {"prompt": f"p{prompt}", "chosen": chosen, "rejected": "poor", **more}


def prompts(source, split):
    return [pair.messages[0].content for pair in source.pairs(split)]


def test_all_pairs_of_a_prompt_are_on_one_side_and_none_is_lost(write_rows, settings):
    rows = [row(n, chosen=f"answer {k}") for k in range(3) for n in range(200)]
    source = JsonlSource(write_rows(rows), **settings)
    by_split = {split: prompts(source, split) for split in SPLITS}
    assert sum(map(len, by_split.values())) == 600 == len(source.pairs("all"))
    assert all(by_split.values())
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not set(by_split[one]) & set(by_split[other])
    # In the file's order, and each prompt with all three of its pairs.
    assert by_split["test"] == [p for p in prompts(source, "all") if p in set(by_split["test"])]
    assert all(by_split["test"].count(p) == 3 for p in by_split["test"])
    assert source.report()["splits"] == {split: len(found) for split, found in by_split.items()}


def test_files_of_their_own_win_over_fractions_and_their_prompts_leave_the_other_splits(write_rows, settings):
    main = write_rows([row(n) for n in range(100)], "main.jsonl")
    validation = write_rows([row(n, "v") for n in (90, 95, 100, 101)], "validation.jsonl")
    test = write_rows([row(n, "t") for n in (95, 96, 101, 200)], "test.jsonl")
    source = JsonlSource(main, **settings | {"validation_path": validation, "test_path": test})
    assert prompts(source, "test") == ["p95", "p96", "p101", "p200"]
    assert prompts(source, "validation") == ["p90", "p100"]
    assert prompts(source, "train") == [f"p{n}" for n in range(100) if n not in (90, 95, 96)]
    assert len(source.pairs("all")) == 100
    report = source.report()
    assert report["left_out_prompt_in_other_split"] == {"train": 3, "validation": 2, "test": 0}
    assert report["files"].keys() == {"path", "validation", "test"}


def test_one_file_of_its_own_leaves_the_other_fraction_in_force(write_rows, settings):
    main = write_rows([row(n) for n in range(200)], "main.jsonl")
    validation = write_rows([row(n, "v") for n in range(200)], "validation.jsonl")
    fractions = JsonlSource(main, **settings)
    source = JsonlSource(main, **settings | {"validation_path": validation})
    assert prompts(source, "test") == prompts(fractions, "test")
    assert set(prompts(source, "validation")) == {f"p{n}" for n in range(200)} - set(prompts(source, "test"))
    assert prompts(source, "train") == []


def test_labels_are_read_and_a_pair_without_an_id_gets_file_and_line(write_rows, settings):
    rows = [row(0, id=7, margin=2, source="web"), b"", row(1, id="x", margin=-0.5), row(2, margin=None)]
    pairs = JsonlSource(write_rows(rows), **settings).pairs("all")
    assert [(pair.id, pair.margin, pair.source) for pair in pairs] == [
        ("7", 2.0, "web"),
        ("x", -0.5, ""),
        ("pairs.jsonl:4", None, ""),
    ]


@pytest.mark.parametrize(
    "label", [{"margin": "1"}, {"margin": True}, {"id": 1.5}, {"id": False}, {"source": 3}]
)
def test_labels_of_the_wrong_type_are_refused(write_rows, settings, label):
    with pytest.raises(UserError, match=rf'pairs\.jsonl:1: "{next(iter(label))}" must be'):
        JsonlSource(write_rows([row(0, **label)]), **settings).pairs("all")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_a_margin_must_be_finite(write_rows, settings, value):
    line = json.dumps(row(0))[:-1] + f', "margin": {value}}}'
    with pytest.raises(UserError, match="finite number"):
        JsonlSource(write_rows([line.encode()]), **settings).pairs("all")


def test_duplicates_are_kept_and_counted(write_rows, settings):
    source = JsonlSource(write_rows([row(0), row(1), row(0), row(0, "other")]), **settings)
    report = source.report()
    assert len(source.pairs("all")) == 4
    assert (report["duplicates"], report["prompts"]) == (1, 2)
    json.dumps(report)


def test_the_fingerprint_follows_the_content_and_the_split_and_not_the_place(write_rows, settings, tmp_path):
    rows = [row(n) for n in range(20)]

    def fingerprint(rows, name="pairs.jsonl", **changes):
        return JsonlSource(write_rows(rows, name), **settings | changes).fingerprint()

    same = fingerprint(rows)
    (tmp_path / "elsewhere").mkdir()
    assert same == fingerprint(rows, "elsewhere/pairs.jsonl") == fingerprint(rows)
    others = [
        fingerprint(rows[::-1]),
        fingerprint(rows[:-1]),
        fingerprint([row(0, margin=1.0), *rows[1:]]),
        fingerprint(rows, split_seed=1),
        fingerprint(rows, test_fraction=0.2),
        fingerprint(rows, limit=19),
    ]
    assert same not in others


def test_limit_takes_the_first_pairs_of_each_file(write_rows, settings):
    main = write_rows([row(n) for n in range(50)], "main.jsonl")
    test = write_rows([row(n) for n in range(100, 150)], "test.jsonl")
    source = JsonlSource(main, **settings | {"test_path": test, "limit": 5})
    assert prompts(source, "all") == [f"p{n}" for n in range(5)]
    assert len(source.pairs("test")) == 5


def test_an_unknown_split_is_refused(write_rows, settings):
    with pytest.raises(UserError, match="split=dev is unknown: use one of train, validation, test, all"):
        JsonlSource(write_rows([row(0)]), **settings).pairs("dev")
