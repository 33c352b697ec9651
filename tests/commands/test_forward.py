"""Which overrides of `iterate` go where."""

import pytest

from rlhf_rm.commands.forward import first_key, forwarded, named_paths
from rlhf_rm.errors import UserError
from rlhf_rm.overrides import override_of


def test_the_first_key_of_every_form():
    forms = ["data=hh", "data.path=x", "+data@data.source=hh", "~data", "++data.limit=3", "+data.a.b=0.7"]
    assert {first_key(one) for one in forms} == {"data"}


def test_everybody_gets_what_they_read():
    given = ["rounds=3", "data=hh", "data.path=f", "model=tiny", "loss=hinge", "denoise=flip", "meta.k=3"]
    given += ["ppo=quick", "sampling.temperature=0.8", "judge=reward", "judge.run=r", "seed=7"]
    given += ["paths.cache_dir=c", "launcher=joblib", "method=reward", "policy={a: 1}"]
    found = forwarded(given, {"trainer.max_epochs": 2}, {"trainer.max_steps": 9})
    data = ("data=hh", "data.path=f")
    drawn = ("sampling.temperature=0.8", "seed=7", "paths.cache_dir=c")
    about = ("loss=hinge", "denoise=flip", "meta.k=3")
    assert found.reward == (*data, "model=tiny", *about, *drawn, "method=reward", "trainer.max_epochs=2")
    assert found.policy == (*data, "model=tiny", "ppo=quick", *drawn, "trainer.max_steps=9")
    assert found.sample == (*data, "sampling.temperature=0.8", "paths.cache_dir=c")
    assert found.judge == (*data, "judge=reward", "judge.run=r", "paths.cache_dir=c")
    assert found.evaluate == ("paths.cache_dir=c",)


def test_files_that_overrides_name_are_found_and_places_are_not(tmp_path):
    (tmp_path / "pairs.jsonl").touch(), (tmp_path / "a b").mkdir()
    given = [f"data.path={tmp_path}/pairs.jsonl", override_of("denoise.strengths", f"{tmp_path}/a b")]
    given += [f"paths.cache_dir={tmp_path}", "model.path=org/name", "data=jsonl", "data.limit=3", "~denoise"]
    assert named_paths(given) == [tmp_path / "pairs.jsonl", tmp_path / "a b"]
    deep = [f"data={{path: {tmp_path}/pairs.jsonl}}", f"+data.sources={{a: {{paths: ['{tmp_path}/a b']}}}}"]
    assert named_paths(deep) == [tmp_path / "pairs.jsonl", tmp_path / "a b"]
    assert named_paths([override_of("judge.question", "why? " * 2000)]) == []


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("resume=auto", "each step goes on where it was interrupted by itself"),
        ("experiment=denoise", "write out what it sets"),
        ("hparams_search=optuna", "no single metric to search by"),
        ("optimized_metric=val/loss", "no single metric"),
        ("meta.responses=f.jsonl", "meta.responses is what each round samples"),
        ("++meta.responses=f.jsonl", "meta.responses is what each round samples"),
        ("meta={responses: f.jsonl}", "meta.responses is what each round samples"),
    ],
)
def test_what_no_step_could_take_is_refused(override, says):
    with pytest.raises(UserError, match=says):
        forwarded([override], {}, {})
