"""Every pair of choices of data, loss, recipe and method trains together, or is refused with the reason.

Not every combination of four is run, but every two choices meet in one at least.
"""

import itertools
import json

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from rlhf_rm.data.strengths import from_members, write_strengths
from tests.test_conf import CONF, data_of

CHOICES = {
    "data": ["synthetic", "hh", "jsonl", "mixture", "flipped"],
    "loss": ["bradley_terry", "hinge", "logexp", "plackett_luce"],
    "denoise": [
        "none",
        "flip",
        "soft",
        "margin",
        "flip_margin",
        "soft_margin",
        "drop",
        "reweight",
        "vote_target",
        "slice",
    ],
    "method": ["reward", "denoised", "contrastive", "meta", "meta_contrastive", "ensemble"],
}
MARGINS = {"margin", "flip_margin", "soft_margin"}  # recipes that ask for margins
TARGETS = {"soft", "soft_margin", "vote_target"}  # recipes that make soft labels
READS = {"bradley_terry": MARGINS | TARGETS, "hinge": MARGINS - TARGETS}  # of them, by loss


def covering():
    """Combinations in which every two choices meet: greedily, the one that adds most."""
    names = list(CHOICES)
    combinations = list(itertools.product(*CHOICES.values()))

    def pairs(combination):
        return set(itertools.combinations(zip(names, combination, strict=True), 2))

    missing = set().union(*map(pairs, combinations))
    while missing:
        best = max(combinations, key=lambda one: len(pairs(one) & missing))
        missing -= pairs(best)
        yield best


def test_every_two_choices_meet():
    met = {
        frozenset(two)
        for one in covering()
        for two in itertools.combinations(zip(CHOICES, one, strict=True), 2)
    }
    sizes = [len(choices) for choices in CHOICES.values()]
    assert len(met) == sum(a * b for a, b in itertools.combinations(sizes, 2))


@pytest.mark.slow
@pytest.mark.parametrize(("data", "loss", "denoise", "method"), covering())
def test_they_train_together_or_say_why_not(rlhf_rm, small, tmp_path, data, loss, denoise, method):
    given = [*small]
    if data != "synthetic":
        given = [one for one in small if not one.startswith("data.")] + data_of(data, tmp_path)
    given += [f"data={data}", f"loss={loss}"]
    told = [*given, f"method={method}", f"denoise={denoise}"]
    told.append(f"denoise.strengths={voted(given, tmp_path)}")
    told += ["denoise.recipe.steps.slice.of=2"] if denoise == "slice" else []
    told += ["contrastive=simcse_pairs"] if "contrastive" in method else []
    told += [f"meta.responses={responses(tmp_path)}", "meta.prompts=2"] if "meta" in method else []
    told += ["members.size=2"] if method == "ensemble" else []
    told += ["trainer.max_steps=2", "trainer.max_epochs=-1", f"hydra.run.dir={tmp_path / 'run'}"]
    ended = rlhf_rm("train", *told)
    asked = (MARGINS | TARGETS) & {denoise}
    if asked and not asked <= READS.get(loss, set()):
        assert ended.code == 2, ended.out
        assert "loss" in ended.err and "Traceback" not in ended.err
    else:
        assert ended.code == 0, ended.err
        assert json.loads((tmp_path / "run" / "metrics.json").read_text())["steps"] == 2


def voted(overrides, directory):
    """Strengths of the training pairs, drawn at random."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        pairs = instantiate(compose("train", overrides).data).pairs("train")
    names = list(dict.fromkeys(pair.pair_id for pair in pairs))
    members = np.random.default_rng(0).normal(size=(3, len(names)))
    write_strengths(directory / "vote", from_members(names, members))
    return directory / "vote"


def responses(directory):
    """Three answers to each of some prompts."""
    path = directory / "responses.jsonl"
    rows = [{"prompt": f"Question {i}?", "responses": [f"Yes {i}.", "No!", "Perhaps."]} for i in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path
