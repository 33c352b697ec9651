"""Every number of the audit of real dialogues against a count that is made in another way."""

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from rlhf_rm.data.hh import HHSource

FILE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "hh-harmless-base-test.jsonl.gz"


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    if not FILE.is_file():
        pytest.skip(f"needs {FILE}, which is not in the project")
    directory = tmp_path_factory.mktemp("audit")
    began = time.monotonic()
    overrides = ["data=hh", f"data.path={FILE}", "model.max_length=256", f"hydra.run.dir={directory / 'run'}"]
    ended = subprocess.run(
        [sys.executable, "-m", "rlhf_rm.cli", "audit", *overrides],
        env=os.environ | {"RLHF_RM_CACHE": str(directory / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    report = json.loads((directory / "run" / "audit.json").read_text())
    (tokenizer,) = (directory / "cache" / "tokenizers").glob("*/tokenizer.json")
    return report, AutoTokenizer.from_pretrained(tokenizer.parent), time.monotonic() - began


@pytest.fixture(scope="module")
def rows():
    """The dialogues as they stand in the file, cut by hand at the last assistant turn they share."""
    found = []
    for line in gzip.decompress(FILE.read_bytes()).decode().splitlines():
        row = json.loads(line)
        chosen, rejected = (row[side].split("\n\nAssistant:") for side in ("chosen", "rejected"))
        shared = 0
        while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
            shared += 1
        prompt = "\n\nAssistant:".join(chosen[:shared])
        found.append(
            (
                prompt,
                "\n\nAssistant:".join(chosen[shared:]).removeprefix(" "),
                "\n\nAssistant:".join(rejected[shared:]).removeprefix(" "),
            )
        )
    return found


def finding(audited, name):
    return next(one for one in audited[0]["findings"] if one["name"] == name)


def test_it_is_quick_and_counts_every_pair(audited, rows):
    report, _, seconds = audited
    assert seconds < 60
    assert sum(report["pairs"].values()) == len(rows) == 2312
    assert report["source"]["files"]["path"]["read"] == 2312


def test_texts(audited, rows):
    assert finding(audited, "duplicates")["count"] == len(rows) - len(set(rows))
    turned = {(prompt, b, a) for prompt, a, b in rows}
    assert finding(audited, "conflicts")["count"] == sum(row in turned for row in rows)
    short = [row for row in rows if min(len("".join(text.split())) for text in row[1:]) < 3]
    assert finding(audited, "near_empty")["count"] == len(short) == 7
    marked = [
        row for row in rows if any("\n\nHuman:" in text or "\n\nAssistant:" in text for text in row[1:])
    ]
    assert finding(audited, "role_markers")["count"] == len(marked) == 5
    assert finding(audited, "leakage")["numbers"]["exact"] == 0
    assert finding(audited, "special_tokens")["numbers"]["tokens"] == ["<|eos|>", "<|pad|>"]
    assert finding(audited, "special_tokens")["count"] == sum(
        "<|eos|>" in "".join(row) or "<|pad|>" in "".join(row) for row in rows
    )
    assert finding(audited, "encoding")["numbers"]["replacement_character"] == sum(
        "\ufffd" in "".join(row) for row in rows
    )


def test_tokens(audited, rows):
    report, tokenizer, _ = audited

    def ids(prompt, response):
        return tokenizer(f"{prompt}\n\nAssistant: {response}<|eos|>", add_special_tokens=False)["input_ids"]

    both = [(ids(prompt, a), ids(prompt, b)) for prompt, a, b in rows]
    longest = [max(len(a), len(b)) for a, b in both]
    too_long = finding(audited, "too_long")
    assert too_long["count"] == sum(length > 256 for length in longest)
    for length, count in too_long["numbers"]["longer_than"].items():
        assert count == sum(one > int(length) for one in longest)
    assert too_long["numbers"]["longest"] == max(longest)
    shared = []
    for a, b in both:
        common = 0
        while common < min(len(a), len(b)) - 1 and a[common] == b[common]:
            common += 1
        shared.append(common)
    packed = sum(len(a) + len(b) for a, b in both)
    assert report["packing"]["packed"] == packed
    assert report["packing"]["shared"] == packed - sum(shared)
    assert report["packing"]["prefix_share"] == pytest.approx(2 * sum(shared) / packed)
    length_of = dict(zip(rows, longest, strict=True))
    in_order = [length_of[row] for row in sorted(rows, key=place_in_splits(rows))]
    batches = [in_order[i : i + 8] for i in range(0, len(in_order), 8)]
    assert report["packing"]["padded"] == sum(2 * len(batch) * max(batch) for batch in batches)
    bias = finding(audited, "length_bias")
    longer = sum(len(a) > len(b) for a, b in both)
    ties = sum(len(a) == len(b) for a, b in both)
    assert (bias["count"], bias["of"], bias["numbers"]["ties"]) == (longer, len(rows) - ties, ties)
    assert bias["numbers"]["accuracy"] == pytest.approx(longer / (len(rows) - ties))
    share, prompts = bias["numbers"]["accuracy"], len({prompt for prompt, _, _ in rows})
    half = 1.96 * (share * (1 - share) / prompts) ** 0.5
    assert bias["numbers"]["accuracy_ci95"] == pytest.approx([share - half, share + half], abs=0.004)


def place_in_splits(rows):
    """Where a row comes when the splits stand one after another: train, validation, test."""
    source = HHSource(
        FILE,
        validation_path=None,
        test_path=None,
        validation_fraction=0.1,
        test_fraction=0.1,
        split_seed=0,
        on_bad_row="error",
        limit=None,
        columns=None,
    )
    pairs = [pair for split in ("train", "validation", "test") for pair in source.pairs(split)]
    place = {(pair.messages[-1].content, pair.chosen, pair.rejected): i for i, pair in enumerate(pairs)}
    return lambda row: place[row[0].split("\n\nHuman: ")[-1], row[1], row[2]]
