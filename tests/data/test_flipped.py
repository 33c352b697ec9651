"""Labels that are turned on purpose."""

import json

import numpy as np
import pytest

from rlhf_rm.data.flipped import FlippedSource
from rlhf_rm.data.jsonl import JsonlSource
from rlhf_rm.metrics.reference import reference_labels

SETTINGS = {
    "validation_path": None, "test_path": None, "validation_fraction": 0.2, "test_fraction": 0.2,
    "split_seed": 0, "on_bad_row": "error", "limit": None, "columns": {},
}  # fmt: skip


@pytest.fixture
def source(tmp_path):
    rows = [
        {
            "prompt": f"q{i}", "chosen": f"good {i}", "rejected": f"bad {i}", "margin": 2.0,
            "mean preference difference": 1.5, "std preference difference": 0.5, "GPT4 label": i % 2,
        }
        for i in range(60)
    ]  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return JsonlSource(tmp_path / "pairs.jsonl", **SETTINGS)


def test_exactly_so_many_training_pairs_change_sides_and_no_others(source):
    before, flipped = source.pairs("train"), FlippedSource(source, 0.3, 1)
    after = flipped.pairs("train")
    turned = [pair.notes["flipped"] == 1 for pair in after]
    assert sum(turned) == round(0.3 * len(before)) == flipped.report()["flipped"]
    for old, new, is_turned in zip(before, after, turned, strict=True):
        assert (new.chosen, new.rejected) == (
            (old.rejected, old.chosen) if is_turned else (old.chosen, old.rejected)
        )
        assert (new.pair_id != old.pair_id) == is_turned and new.margin == old.margin
        sign = -1 if is_turned else 1
        assert new.notes["strength_mean"] == sign * 1.5 and new.notes["strength_std"] == 0.5
        label = old.notes["gpt4_label"]
        assert new.notes["gpt4_label"] == (1 - label if is_turned else label)
    assert flipped.pairs("test") == source.pairs("test")
    assert "all" in source.splits and "all" not in flipped.splits  # the whole would not be turned


def test_the_same_seed_turns_the_same_pairs(source):
    one, same, other = (FlippedSource(source, 0.3, seed) for seed in (1, 1, 2))
    assert one.pairs("train") == same.pairs("train") != other.pairs("train")
    assert one.fingerprint() == same.fingerprint()
    assert len({one.fingerprint(), other.fingerprint(), source.fingerprint()}) == 3


def test_what_was_turned_is_a_reference_where_nothing_else_is_known():
    flipped = np.array([0.0, 1.0])
    name, right = reference_labels({"flipped": flipped})
    assert name == "planted" and right.tolist() == [1.0, 0.0]
    assert reference_labels({"flipped": flipped, "gpt4_label": flipped})[0] == "gpt4"


def test_a_share_above_1_is_refused(rlhf_rm, tmp_path, source):
    told = ["data=flipped", "+data@data.source=jsonl", f"data.source.path={tmp_path}/pairs.jsonl"]
    ended = rlhf_rm("train", *told, "data.flip_rate=1.5")
    assert ended.code == 2 and "data.flip_rate=1.5 is a share of the training pairs" in ended.err


def test_a_vote_finds_planted_flips(rlhf_rm, small, tmp_path, source):
    told = [one for one in small if not one.startswith("data.")]
    told += ["data=flipped", "+data@data.source=jsonl", f"data.source.path={tmp_path}/pairs.jsonl"]
    assert rlhf_rm("train", "-m", *told, "seed=1,2", f"hydra.sweep.dir={tmp_path}/runs").code == 0
    ended = rlhf_rm("vote", f"members={tmp_path}/runs/*", f"hydra.run.dir={tmp_path}/vote")
    assert ended.code == 0, ended.err
    summary = json.loads((tmp_path / "vote/manifest.json").read_text())["summary"]
    assert summary["reference"] == "GPT-4" and summary["wrong_labels"]["auroc_flipped"] is not None
