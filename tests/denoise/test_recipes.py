"""The recipes on ten pairs whose strengths are -4.5, -3.5, …, 4.5 in an order of their own."""

from math import inf, nan
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from rlhf_rm.denoise.adaptive_margin import AdaptiveMargin
from rlhf_rm.denoise.base import Recipe
from rlhf_rm.denoise.drop import Drop
from rlhf_rm.denoise.flip import Flip
from rlhf_rm.denoise.reweight import Reweight
from rlhf_rm.denoise.select import Select
from rlhf_rm.denoise.slice import Slice
from rlhf_rm.denoise.soft_label import SoftLabel
from rlhf_rm.denoise.vote_target import VoteTarget
from rlhf_rm.errors import UserError
from rlhf_rm.functional.preference import bradley_terry

CONF = Path(__file__).resolve().parents[2] / "conf"
ORDER = torch.tensor([3, 0, 9, 1, 5, 2, 8, 7, 4, 6])
MEAN = ORDER.double() - 4.5
MEMBERS = torch.stack([MEAN - 1, MEAN + 1])
RECIPES = sorted(path.stem for path in (CONF / "denoise").glob("*.yaml"))


def apply(*steps, margin=0.0):
    recipe = Recipe({str(i): step for i, step in enumerate(steps)})
    return recipe(MEAN, torch.ones(10), MEMBERS, torch.full((10,), margin))


def test_without_steps_nothing_changes():
    labels = apply()
    assert not labels.swap.any() and labels.keep.all()
    assert (labels.target == 1).all() and (labels.weight == 1).all() and (labels.margin == 0).all()


def test_the_weakest_change_sides_and_their_strength_its_sign():
    labels = apply(Flip(Select(below=0.2)), margin=0.5)
    weakest = ORDER < 2
    assert labels.swap.tolist() == weakest.tolist()
    assert labels.mean.tolist() == torch.where(weakest, -MEAN, MEAN).tolist()
    assert torch.equal(labels.members_MB[0], torch.where(weakest, -MEMBERS[0], MEMBERS[0]))
    assert labels.margin.tolist() == torch.where(weakest, -0.5, 0.5).tolist()
    assert (labels.target == 1).all()


def test_a_threshold_selects_by_strength():
    assert apply(Flip(Select(weaker_than=-2.0))).swap.tolist() == (MEAN < -2).tolist()
    assert apply(Drop(Select(weaker_than=0.0))).keep.tolist() == (MEAN >= 0).tolist()


def test_soft_labels_give_the_loss_of_the_paper():
    labels = apply(SoftLabel(0.2, Select(above=0.9)))
    assert labels.target.tolist() == [0.8 if rank == 9 else 1.0 for rank in ORDER.tolist()]
    chosen, rejected = torch.tensor([1.3]), torch.tensor([0.1])
    delta = chosen - rejected
    by_hand = -(0.8 * torch.sigmoid(delta).log() + 0.2 * torch.sigmoid(-delta).log())
    assert torch.allclose(bradley_terry(chosen, rejected, target_B=labels.target[2:3]), by_hand)


def test_the_margin_is_the_clipped_strength_also_of_a_flipped_pair():
    labels = apply(AdaptiveMargin(scale=0.5, clip=3.0), margin=0.25)
    assert labels.margin.tolist() == (0.25 + 0.5 * MEAN.clamp(-3, 3)).tolist()
    flipped = apply(Flip(Select(below=0.1)), AdaptiveMargin(1.0, 3.0))
    assert flipped.margin[ORDER == 0].item() == 3.0


def test_ranks_are_those_before_the_flip():
    labels = apply(Flip(Select(below=0.2)), SoftLabel(0.3, Select(below=0.2)))
    assert torch.equal(labels.target < 1, ORDER < 2)


def test_a_flip_of_what_has_a_target_already_is_refused():
    assert apply(VoteTarget(1.0), Flip(Select(below=0.0001))).swap.sum() == 0
    with pytest.raises(UserError, match="let the flip come first"):
        apply(VoteTarget(1.0), Flip(Select(below=0.2)))
    with pytest.raises(UserError, match="let the flip come first"):
        apply(SoftLabel(0.3, Select(below=0.2)), Flip(Select(below=0.2)))


def test_weights_rise_with_strength_and_keep_their_floor():
    labels = apply(Reweight(temperature=0.5, floor=0.1))
    assert torch.equal(labels.weight, torch.sigmoid(MEAN / 0.5).clamp(min=0.1))
    assert labels.weight.min() == 0.1


def test_the_vote_is_mixed_with_the_label():
    vote = torch.sigmoid(MEMBERS).mean(0)
    assert torch.allclose(apply(VoteTarget(0.75)).target, 0.25 + 0.75 * vote)
    with pytest.raises(UserError, match="hold only their mean"):
        Recipe({"vote": VoteTarget(1.0)})(MEAN, MEAN, torch.empty(0, 10), MEAN)


@pytest.mark.parametrize("flip", [False, True])
def test_slices_are_disjoint_and_cover_everything(flip):
    kept = torch.stack([apply(Slice(number, 5, flip)).keep for number in range(5)])
    assert kept.sum(0).tolist() == [1] * 10
    assert kept[0].tolist() == (ORDER < 2).tolist()
    assert apply(Slice(1, 5, flip)).swap.sum() == (2 if flip else 0)


@pytest.mark.parametrize("pairs", [5, 10, 15, 25, 45, 999])
def test_slices_cover_pairs_that_no_ten_divides(pairs):
    mean = torch.randn(pairs, dtype=torch.float64)
    recipes = [Recipe({"slice": Slice(number, 10, False)}) for number in range(10)]
    ranks = torch.argsort(torch.argsort(mean))
    for number, recipe in enumerate(recipes):
        inside = ((2 * ranks + 1) * 10).div(2 * pairs, rounding_mode="floor") == number
        if inside.any():
            assert torch.equal(recipe(mean, mean, mean[None], torch.zeros(pairs)).keep, inside)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Flip(None), "where=null must keep its settings above, below and weaker_than"),
        (SoftLabel(0.2, 0.1), "where=0.1 must keep its settings"),
        (Flip(Select(below=1.5)), "where.below=1.5 must be a number from 0 to 1"),
        (Flip(Select(below=None)), "where.below=null must be a number from 0 to 1"),
        (Drop(Select(above="0,5")), "where.above='0,5' must be a number from 0 to 1"),
        (Drop(Select(weaker_than="weak")), "where.weaker_than=weak must be a number or null"),
        (Flip(Select(above=0.5, below=0.5)), "where.above=0.5 must be smaller than where.below=0.5"),
        (SoftLabel(0.5, Select()), "alpha=0.5 must be a number from 0 to below 0.5"),
        (SoftLabel(True, Select()), "alpha=true must be a number"),
        (AdaptiveMargin(-1.0, 3.0), "scale=-1.0 must be a number of at least 0"),
        (AdaptiveMargin("a", 3.0), "scale=a must be a number of at least 0"),
        (AdaptiveMargin(nan, 3.0), "scale=nan must be a number of at least 0"),
        (AdaptiveMargin(inf, 3.0), "scale=inf must be a number of at least 0"),
        (AdaptiveMargin(1.0, 0), "clip=0 must be a number above 0"),
        (Reweight(0.0, 0.0), "temperature=0.0 must be a number above 0"),
        (Reweight(None, 0.0), "temperature=null must be a number above 0"),
        (Reweight(1.0, 1.5), "floor=1.5 must be a number from 0 to 1"),
        (VoteTarget(2.0), "share=2.0 must be a number from 0 to 1"),
        (Slice(10, 10, False), "number=10 must be a whole number from 0 to 9, one less than of"),
        (Slice(0.5, 10, False), "number=0.5 must be a whole number"),
        (Slice("x", 10, False), "number=x must be a whole number"),
        (Slice(None, 10, False), "number=null must be a whole number"),
        (Slice(0, 2.5, False), "of=2.5 must be a whole number of at least 1"),
        (Slice(0, 10, "no"), "flip='no' must be true or false"),
    ],
)
def test_settings_out_of_range_are_refused(step, message):
    with pytest.raises(UserError, match=f"^denoise.recipe.steps.mine.{message}"):
        Recipe({"mine": step})(MEAN, MEAN, MEMBERS, MEAN)


def test_a_recipe_that_leaves_no_pair_is_refused():
    with pytest.raises(UserError, match="leaves none of the 10 training pairs"):
        apply(Drop(Select()))


@pytest.mark.parametrize("name", RECIPES)
def test_every_configured_recipe_does_what_its_name_says(name):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[f"denoise={name}", "method=denoised"])
    labels = instantiate(cfg.denoise.recipe)(MEAN, MEAN.abs(), MEMBERS, torch.zeros(10))
    assert labels.swap.any() == name.startswith("flip")
    assert (labels.margin != 0).any() == name.endswith("margin")
    assert (labels.target != 1).any() == (name.startswith("soft") or name == "vote_target")
    assert (labels.weight != 1).any() == (name == "reweight")
    assert int(labels.keep.sum()) == {"drop": 9, "slice": 1}.get(name, 10)
