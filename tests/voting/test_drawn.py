"""What the figures of a vote show, as numbers."""

import numpy as np
import pytest

from rlhf_rm.data.strengths import from_members
from rlhf_rm.voting.drawn import drawn


@pytest.mark.parametrize("sign", [1, -1])
def test_every_pair_is_in_a_bar(sign):
    for seed in range(3000):
        mean = sign * np.random.default_rng(seed).gamma(2.0, size=8)
        strengths = from_members([f"{i:064x}" for i in range(8)], np.stack([mean, mean]))
        assert sum(drawn(strengths, {})["strength"]["pairs"]) == 8, seed
