"""One world of the default sizes for all tests here; making it takes a few seconds."""

import pytest

from rlhf_rm.data.world.source import WorldSource

SIZES = {
    "train_pairs": 12000,
    "validation_pairs": 500,
    "test_pairs": 1500,
    "shifted_pairs": 300,
    "demonstrations": 3000,
}


@pytest.fixture(scope="session")
def world() -> WorldSource:
    return WorldSource(seed=0, flip_rate=0.0, **SIZES)


@pytest.fixture
def small():
    """A world of a few hundred pairs: ``small(seed=1)``."""

    def make(seed: int = 0, flip_rate: float = 0.0) -> WorldSource:
        return WorldSource(
            seed=seed,
            train_pairs=301,
            validation_pairs=40,
            test_pairs=40,
            shifted_pairs=20,
            demonstrations=300,
            flip_rate=flip_rate,
        )

    return make
