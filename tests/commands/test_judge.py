"""`rlhf-rm judge` from the command line."""

import json

import pytest

from rlhf_rm.data.world.source import WorldSource

SIZES = {
    "train_pairs": 40,
    "validation_pairs": 10,
    "test_pairs": 12,
    "shifted_pairs": 4,
    "demonstrations": 40,
}


@pytest.fixture
def world():
    return WorldSource(seed=0, flip_rate=0.0, **SIZES)


@pytest.fixture
def files(world, tmp_path):
    """The best responses and the worst of four, to the same prompts."""
    prompts = world.prompts("train")
    worst = [min(zip(g.golds, g.responses, strict=True))[1] for g in world.responses("train", 4)]
    answers = {"best": [world.best_response(prompt) for prompt in prompts], "worst": worst}
    for name, responses in answers.items():
        rows = [
            {"prompt": [message._asdict() for message in prompt], "responses": [response]}
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def judge(rlhf_rm, small, files):
    world = [one for one in small if one.startswith("data.")]

    def judge(a, b, *overrides):
        told = [f"a={files}/{a}.jsonl", f"b={files}/{b}.jsonl", f"hydra.run.dir={files}/judged", *overrides]
        return rlhf_rm("judge", *told, *world)

    return judge


def test_gold_prefers_the_best(judge, files, world):
    ended = judge("best", "worst", "judge=gold")
    assert ended.code == 0, ended.err
    told = json.loads((files / "judged/judgement.json").read_text())
    assert told["win"]["share"] > 0.9 and told["lose"]["share"] == 0 and told["no_answer"]["count"] == 0
    verdicts = [json.loads(line) for line in (files / "judged/verdicts.jsonl").read_text().splitlines()]
    assert len(verdicts) == told["comparisons"] == len(world.prompts("train"))
    assert "a wins" in ended.out and "no answer" not in ended.out
    assert judge("worst", "best", "judge=gold").code == 0
    turned = json.loads((files / "judged/judgement.json").read_text())
    assert turned["win_minus_lose"]["share"] == -told["win_minus_lose"]["share"]


def test_equals_tie(judge, files):
    assert judge("best", "best", "judge=gold").code == 0
    told = json.loads((files / "judged/judgement.json").read_text())
    assert told["tie"]["share"] == 1 and told["win_minus_lose"]["share"] == 0


def test_a_reward_model_judges_as_it_scores(rlhf_rm, small, judge, files, tmp_path):
    run = tmp_path / "reward"
    assert rlhf_rm("train", *small, f"hydra.run.dir={run}").code == 0
    rewards = {}
    for name in ("best", "worst"):
        rows = [json.loads(line) for line in (files / f"{name}.jsonl").read_text().splitlines()]
        flat = [{"prompt": row["prompt"], "response": row["responses"][0]} for row in rows]
        (tmp_path / "flat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in flat))
        told = [f"run={run}", f"input={tmp_path}/flat.jsonl", f"output={tmp_path}/scored.jsonl"]
        assert rlhf_rm("score", *told).code == 0
        rewards[name] = [
            json.loads(line)["reward"] for line in (tmp_path / "scored.jsonl").read_text().splitlines()
        ]
    ended = judge("best", "worst", "judge=reward", f"judge.run={run}")
    assert ended.code == 0, ended.err
    told = json.loads((files / "judged/judgement.json").read_text())
    wins = sum(a > b for a, b in zip(rewards["best"], rewards["worst"], strict=True))
    assert abs(told["win"]["count"] - wins) <= 1  # one may be a tie by rounding
    # Whose rewards differ in their last bits, by their places in a row.
    assert judge("best", "best", "judge=reward", f"judge.run={run}").code == 0
    assert json.loads((files / "judged/judgement.json").read_text())["tie"]["share"] == 1


def test_an_endpoint_that_never_answers_leaves_no_judgement(judge, files):
    pytest.importorskip("openai")
    told = ["judge=endpoint", "judge.base_url=http://127.0.0.1:1/v1", "judge.model=m", "judge.retries=0"]
    ended = judge("best", "worst", *told)
    assert ended.code == 2 and "the last failure: Connection error" in ended.err
    assert "look at judge.base_url=http://127.0.0.1:1/v1, judge.model=m" in ended.err
    assert not (files / "judged/judgement.json").exists() and not (files / "judged/verdicts.jsonl").exists()


def test_prompts_of_one_file_alone_are_counted(judge, files):
    lines = (files / "worst.jsonl").read_text().splitlines(keepends=True)
    (files / "few.jsonl").write_text("".join(lines[:5]))
    ended = judge("best", "few", "judge=gold")
    assert ended.code == 0, ended.err
    told = json.loads((files / "judged/judgement.json").read_text())
    assert told["comparisons"] == 5 and told["prompts_only_in_a"] == len(lines) - 5
    assert f"{len(lines) - 5} prompts are in a alone" in ended.out + ended.err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "elsewhere", "response": "x"}], "have no prompt in common"),
        ([{"prompt": "q"}], 'a row needs "prompt", and either "responses" or "response"'),
        ([{"prompt": "q", "responses": []}], '"responses" must be a list of texts'),
    ],
)
def test_bad_files_are_one_sentence(judge, files, rows, message):
    (files / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = judge("best", "bad", "judge=gold")
    assert ended.code == 2 and message in ended.err and ended.err.count("\n") == 1


def test_other_bad_input_is_one_sentence(judge, files, rlhf_rm):
    row = {"prompt": "of no world", "responses": ["x", "y"]}
    for name, responses in (("two", ["x", "y"]), ("one", ["x"]), ("other", ["y"])):
        (files / f"{name}.jsonl").write_text(json.dumps(row | {"responses": responses}) + "\n")
    for told, message in (
        (("two", "one", "judge=gold"), "1 prompts have more responses in one file than in the other"),
        (("one", "other", "judge=gold"), "is not a prompt of the synthetic world"),
        (("one", "one"), "judge"),
    ):
        ended = judge(*told)
        assert ended.code == 2 and message in ended.err, ended.err
    hh = files / "hh.jsonl"
    hh.write_text(json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"}))
    told = [f"a={files}/one.jsonl", f"b={files}/one.jsonl", "judge=gold", "data=jsonl", f"data.path={hh}"]
    ended = rlhf_rm("judge", *told)
    assert ended.code == 2 and "knows the truth of data=synthetic only" in ended.err
