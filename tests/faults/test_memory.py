"""Out of memory, made for real."""

import os
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GIGABYTE = 2**30


def test_a_pass_that_does_not_fit_says_its_size_and_what_to_lower(small, cache, tmp_path):
    # Attention written out takes the square of a row, here of all pairs of a large step.
    told = [*small, "data.train_pairs=600", "loader.batch_size=500", "attention=eager"]
    told += ["loader.row_tokens=900000", "loader.micro_tokens=900000", f"hydra.run.dir={tmp_path / 'run'}"]
    ended = subprocess.run(
        [sys.executable, "train.py", *told],
        cwd=ROOT,
        env=os.environ | {"RLHF_RM_CACHE": cache, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 * GIGABYTE, 8 * GIGABYTE)),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 2, ended.stderr
    (line,) = [one for one in ended.stderr.splitlines() if one.startswith("Error")]
    assert line.startswith("Error: out of memory in a pass over 1 rows of ")
    for setting in ("loader.micro_tokens", "model.max_length", "gradient_checkpointing", "resume=auto"):
        assert setting in line
