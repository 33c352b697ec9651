"""What `score` reads and writes beside the rewards themselves."""

from datetime import datetime

import pyarrow as pa
import pyarrow.parquet
import torch

from rlhf_rm.commands.score import with_reward


def test_an_earlier_reward_goes_with_its_deviation():
    row = {"prompt": "q", "response": "a", "reward": 1.0, "reward_std": 0.5, "own": 2}
    assert with_reward(row, torch.tensor([3.0])) == {"prompt": "q", "response": "a", "reward": 3.0, "own": 2}
    assert with_reward(row, torch.tensor([3.0, 5.0])) == row | {"reward": 4.0, "reward_std": 1.0}


def test_what_could_not_be_written_is_refused_before_anything_is_scored(rlhf_rm, tmp_path):
    file = tmp_path / "rows.parquet"
    pa.parquet.write_table(
        pa.table({"prompt": ["q"], "response": ["a"], "when": [datetime(2026, 1, 1)]}), file
    )
    ended = rlhf_rm("score", "run=x", f"input={file}", f"output={tmp_path}/out.jsonl")
    assert ended.code == 2
    assert f'{file}:1: "when" holds datetime, which JSON cannot' in ended.err
