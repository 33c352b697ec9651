"""Label columns of the training pairs, as they are stored."""

import numpy as np
import pytest

from rlhf_rm.data.denoised import DenoisedDataModule
from rlhf_rm.data.strengths import from_members, write_strengths
from rlhf_rm.denoise.base import Recipe
from rlhf_rm.denoise.reweight import Reweight
from rlhf_rm.errors import UserError


@pytest.fixture
def reweighted(tiny, tmp_path):
    """The labels of four pairs of these strengths, weighted by σ(strength / 0.01)."""

    def labels(*strength):
        source = tiny.Source(train=4)
        pair_ids = [pair.pair_id for pair in source.pairs("train")]
        write_strengths(tmp_path / "vote", from_members(pair_ids, np.array([strength, strength])))
        recipe = Recipe({"reweight": Reweight(temperature=0.01, floor=0.0)})
        told = {"strengths": str(tmp_path / "vote"), "recipe": recipe} | tiny.LOADING | {"batch_size": 1}
        return DenoisedDataModule(source, tiny.make_tokenizer(), **told).split("train").labels

    return labels


def test_a_pair_whose_stored_weight_divides_no_step_is_left_out(reweighted):
    # In float32 exp(-200) is 0 and the inverse of exp(-95) infinite: no step of either alone has a loss.
    labels = reweighted(-2.0, -0.95, -0.5, 1.0)
    assert labels.keep.tolist() == [False, False, True, True]
    assert np.isfinite(1 / labels.weight[labels.keep]).all()


def test_weights_that_are_all_stored_as_nothing_leave_no_pair(reweighted):
    with pytest.raises(UserError, match="the recipe reweight leaves none of the 4 training pairs"):
        reweighted(-2.0, -0.95, -3.0, -4.0)
