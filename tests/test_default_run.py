"""The default run: a base model, a reward model on noisy labels, and what it reaches on clean ones."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_default_model_beats_length_and_a_bag_of_words(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "train.py", f"hydra.run.dir={tmp_path / 'run'}"],
        cwd=ROOT,
        env=environment | {"RLHF_RM_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    print(ended.stdout, f"{time.monotonic() - began:.0f} s on {torch.get_num_threads()} threads")
    test = json.loads((tmp_path / "run" / "metrics.json").read_text())["sets"]["test"]
    # tests/data/world/test_difficulty.py holds length and a bag of words to at most 0.70.
    assert test["accuracy"] >= 0.80
