"""The command line as its users meet it: artefacts, exit codes, and one sentence where something is wrong."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def trained(rlhf_rm, small, tmp_path) -> Path:
    ended = rlhf_rm("train", *small, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.err
    return tmp_path / "run"


def one_sentence(ended) -> str:
    """The error as the user sees it: exit code 2, one line, no traceback."""
    assert ended.code == 2, (ended.out, ended.err)
    assert "Traceback" not in ended.err
    lines = [line for line in ended.err.splitlines() if line.startswith("Error")]
    assert len(lines) == 1, ended.err
    return lines[0]


def test_train_evaluate_score_and_export_leave_their_artefacts(rlhf_rm, trained, tmp_path):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["sets"]["test"]["pairs"] == 12
    assert metrics["data"]["encoded"]["train"]["pairs"] == 40
    assert (trained / "metrics.csv").read_text().startswith("step,")
    assert "_target_" in (trained / "config.yaml").read_text()

    ended = rlhf_rm(
        "evaluate", f"run={trained}", f"hydra.run.dir={tmp_path / 'ev'}", "evaluate.sets=[test,train]"
    )
    assert ended.code == 0, ended.err
    sets = json.loads((tmp_path / "ev" / "evaluation.json").read_text())["sets"]
    assert sets["test"]["accuracy"] == pytest.approx(metrics["sets"]["test"]["accuracy"])
    assert sets["test"].keys() >= {
        "ties",
        "accuracy_ci95",
        "ece",
        "brier",
        "mean_margin",
        "length_correlation",
    }
    assert sets["train"]["trained_on"] == 40
    assert "trained on 40 of these 40 pairs" in ended.out + ended.err
    assert (tmp_path / "ev" / "test_reliability.png").read_bytes().startswith(b"\x89PNG")

    rows = [
        {"prompt": "Hello?", "response": "Yes.", "note": 1},
        {"prompt": [{"role": "user", "content": "Hello?"}], "response": ""},
        {"prompt": "Another", "response": "Yes."},
        {"prompt": "Hello?", "response": "Yes."},
    ]
    source = tmp_path / "in.jsonl.gz"
    source.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    scored = tmp_path / "out.jsonl"
    assert rlhf_rm("score", f"run={trained}", f"input={source}", f"output={scored}").code == 0
    got = [json.loads(line) for line in scored.read_text().splitlines()]
    assert [{k: v for k, v in row.items() if k != "reward"} for row in got] == rows
    assert got[0]["reward"] == pytest.approx(got[3]["reward"], abs=1e-5)
    assert len({round(row["reward"], 6) for row in got}) == 3

    ended = rlhf_rm("export", f"run={trained}", f"output={tmp_path / 'again'}")
    assert ended.code == 0, ended.err
    again = tmp_path / "again.jsonl"
    assert rlhf_rm("score", f"run={tmp_path / 'again'}", f"input={source}", f"output={again}").code == 0
    assert [json.loads(line)["reward"] for line in again.read_text().splitlines()] == pytest.approx(
        [row["reward"] for row in got], abs=1e-5
    )


def test_what_cannot_be_exported_is_one_sentence(rlhf_rm, trained, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "file").write_text("x")
    for told, sentence in (
        (
            [f"output={out}", f"checkpoint={trained}/checkpoints"],
            "checkpoints is a directory: name a checkpoint in",
        ),
        ([f"output={tmp_path}/file/out"], "/file/out cannot be written"),
    ):
        assert sentence in one_sentence(rlhf_rm("export", f"run={trained}", *told))
    metrics = trained / "metrics.json"
    whole = metrics.read_text()
    try:
        for damaged in ('{"sets": {}}', whole[:20], "[1]"):
            metrics.write_text(damaged)
            refused = one_sentence(rlhf_rm("export", f"run={trained}", f"output={out}"))
            assert (
                "metrics.json does not hold what this version reads" in refused and "move it away" in refused
            )
    finally:
        metrics.write_text(whole)
    assert not out.exists()


def test_a_run_directory_is_not_overwritten_and_a_finished_run_is_not_trained_again(rlhf_rm, small, trained):
    before = (trained / "export" / "model.safetensors").read_bytes()
    assert "already holds a run" in one_sentence(rlhf_rm("train", *small, f"hydra.run.dir={trained}"))
    ended = rlhf_rm("train", *small, f"hydra.run.dir={trained}", "resume=auto")
    assert ended.code == 0, ended.err
    assert "Going on from" in ended.out + ended.err
    assert (trained / "export" / "model.safetensors").read_bytes() == before


def test_sft_trains_and_exports_a_language_model(rlhf_rm, small, tmp_path):
    ended = rlhf_rm(
        "train", *small, "method=sft", "optimized_metric=val/loss", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert ended.code == 0, ended.err
    values = json.loads((tmp_path / "run" / "metrics.json").read_text())["sets"]["test"]
    assert 1 < values["perplexity"] < 1000
    config = json.loads((tmp_path / "run" / "export" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    refused = one_sentence(
        rlhf_rm("score", f"run={tmp_path / 'run'}", f"input={tmp_path / 'x'}", f"output={tmp_path / 'y'}")
    )
    assert "does not exist" in refused


HH = "\n\nHuman: Hi\n\nAssistant: {}"
GOOD = json.dumps({"chosen": HH.format("Hello."), "rejected": HH.format("No.")})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "does not exist"),
        (gzip.compress(GOOD.encode() * 50)[:-20], "truncated or damaged gzip"),
        (f"{GOOD}\nnot json\n".encode(), ":2:"),
        (b'{"chosen": "\xff"}', ":1:"),
        (b"", "holds no rows"),
        (json.dumps({"chosen": "a"}).encode(), ":1:"),
        (json.dumps({"chosen": 1, "rejected": "b"}).encode(), ":1:"),
        (json.dumps({"chosen": HH.format("a"), "rejected": HH.format("a")}).encode(), ":1:"),
    ],
    ids=["missing", "truncated", "no-json", "no-utf8", "empty", "missing-field", "wrong-type", "equal"],
)
@pytest.mark.parametrize("command", ["train", "score"])
def test_bad_files_get_one_sentence_and_leave_nothing(rlhf_rm, tmp_path, command, content, sentence):
    path = tmp_path / "data.jsonl"
    if content is not None:
        path.write_bytes(content)
    run_dir = tmp_path / "run"
    if command == "train":
        overrides = ["data=hh", f"data.path={path}", "model=llama_12m"]
    else:
        overrides = ["run=x", f"input={path}", f"output={tmp_path / 'out.jsonl'}"]
        # What is an HH row is no row of prompts and responses either: the first line is named.
        sentence = ":1:" if sentence == ":2:" else sentence
    message = one_sentence(rlhf_rm(command, *overrides, f"hydra.run.dir={run_dir}"))
    assert sentence in message
    assert str(path) in message
    assert not (tmp_path / "out.jsonl").exists()
    assert not (run_dir / "export").exists()


def test_bad_rows_can_be_skipped_and_are_counted(rlhf_rm, small, tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [json.dumps({"prompt": f"Q{i}", "chosen": f"yes {i}", "rejected": f"no {i}"}) for i in range(60)]
    path.write_text("\n".join([*rows[:30], "broken", *rows[30:]]))
    fresh = [override for override in small if not override.startswith("data.")]
    ended = rlhf_rm(
        "train",
        "data=jsonl",
        f"data.path={path}",
        "data.on_bad_row=skip",
        *fresh,
        f"hydra.run.dir={tmp_path / 'r'}",
    )
    assert ended.code == 0, ended.err
    file = json.loads((tmp_path / "r" / "metrics.json").read_text())["data"]["files"]["path"]
    assert (file["given"], file["read"], file["skipped"]) == (61, 60, 1)
    ended = rlhf_rm(
        "evaluate", f"run={tmp_path / 'r'}", "data=jsonl", f"data.path={path}", "data.on_bad_row=skip"
    )
    assert ended.code == 0, ended.err
    assert "all_unseen" in ended.out


JUDGED, ASKED = ["a=x", "b=x"], ["judge=endpoint", "judge.base_url=x", "judge.model=x"]


@pytest.mark.parametrize(
    ("command", "overrides", "sentence"),
    [
        ("train", ["model=nope"], "Could not find 'model/nope'"),
        ("train", ["experiment=denois"], "Could not find 'experiment/denois'"),
        ("train", ["debug=tini"], "Could not find 'debug/tini'"),
        ("evaluate", ["run=x", "data=nope"], "Could not find 'data/nope'"),
        ("vote", ["members=x", "data=nope"], "Could not find 'data/nope'"),
        ("train", ["-m", "--cfg", "job"], "shows without -m"),
        ("train", ["loader.batchsize=3"], "loader.batchsize"),
        ("train", ["data=hh"], "data.path has no value"),
        ("train", ["trainer.max_epochs=many"], "trainer.max_epochs=many"),
        ("train", ["trainer.precision=bf16-true"], "kept in bfloat16 by model.dtype=bfloat16"),
        ("train", ["optimizer.lr=abc"], "optimizer.lr=abc must be a number above 0"),
        ("train", ["seed=abc"], "seed=abc must be a whole number from 0 to 4294967295."),
        ("train", ["seed=-1"], "seed=-1 must be a whole number from 0"),
        ("train", ["loader.batch_size=0"], "loader.batch_size=0 must be a whole number of at least 1."),
        ("train", ["loader.micro_tokens=x"], "loader.micro_tokens=x must be a whole number"),
        ("train", ["optimizer.weight_decay=-1"], "optimizer.weight_decay=-1 must be a number of at least 0."),
        ("train", ["method.module.gradient_clip=0"], "gradient_clip=0 must be a number above 0, or null."),
        ("train", ["model.max_length=abc"], "model.max_length=abc must be a whole number of at least 2."),
        ("train", ["trainer.log_every_n_steps=1.5"], "log_every_n_steps=1.5 must be a whole number"),
        ("audit", ["data=synthetic", "model.vocab_size=abc"], "model.vocab_size=abc must be a whole number"),
        ("evaluate", ["run=.", "loader.row_tokens=x"], "loader.row_tokens=x must be a whole number"),
        ("train", ["+trainer.accumulate_grad_batches=2"], "as many passes as loader.micro_tokens leaves"),
        ("train", ["+trainer.gradient_clip_val=1"], "use method.module.gradient_clip=1."),
        (
            "train",
            ["trainer.max_epochs=-1", "trainer.max_steps=-1", "+trainer.max_time=00:00:00:30"],
            "schedule without an end",
        ),
        ("judge", [*JUDGED, "judge=gold", "judge.tie=-0.1"], "judge.tie=-0.1 must be a number of at least 0"),
        ("judge", [*JUDGED, "judge=gold", "judge.tie=nan"], "judge.tie=nan must be a number of at least 0"),
        ("judge", [*JUDGED, *ASKED, "judge.at_once=0"], "judge.at_once=0 must be a whole number of at least"),
        ("judge", [*JUDGED, *ASKED, "judge.retries=-1"], "judge.retries=-1 must be a whole number of at"),
        ("judge", [*JUDGED, *ASKED, "judge.timeout=0"], "judge.timeout=0 must be a number above 0"),
        ("judge", [*JUDGED, *ASKED, "judge.max_tokens=0"], "judge.max_tokens=0 must be a whole number of at"),
        ("train", ["method=denoised"], "method=denoised needs a recipe: add denoise=flip"),
        ("train", ["method=denoised", "denoise=flip"], "add denoise.strengths=DIR"),
        ("train", ["method=denoised", "denoise=flip", "denoise.strengths=/no"], "/no is no strengths file"),
        ("train", ["trainer.precision=13"], "trainer.precision=13 is not supported"),
        ("train", ["resume=nowhere.ckpt"], "resume=nowhere.ckpt is neither"),
        (
            "train",
            ["trainer.val_check_interval=1000"],
            "=1000 is more steps than an epoch has: 10. Give fewer",
        ),
        ("train", ["data.flip_rate=2"], "flip_rate"),
        ("train", ["loader.layout=sideways"], "layout=sideways"),
        ("train", ["model=minilm", "model.path=/nowhere"], "/nowhere"),
        ("evaluate", [], "run has no value"),
        ("evaluate", ["run=."], "no run directory"),
        ("evaluate", ["run=/nowhere/at/all"], "does not exist"),
        ("export", ["run=.", "output=x"], "no config.yaml"),
    ],
)
def test_mistakes_in_the_configuration_get_one_sentence(rlhf_rm, small, command, overrides, sentence):
    base = (
        []
        if command != "train" or "=" not in overrides[0] or overrides[0].startswith(("data=", "model="))
        else small
    )
    assert sentence in one_sentence(rlhf_rm(command, *base, *overrides))


def test_no_two_commands_work_in_one_directory(rlhf_rm, tmp_path):
    one_sentence(rlhf_rm("evaluate", "run=."))
    (default,) = (tmp_path / "outputs" / "evaluate").iterdir()
    assert re.search(r"_\d{6}$", default.name), "commands of one second would share a directory"

    code = "import os, sys, time\nfrom pathlib import Path\nfrom rlhf_rm.commands.alone import alone_in\n"
    code += f"with alone_in(Path({str(tmp_path / 'run')!r})):\n"
    code += "    os.fork() and print('held', flush=True)\n    time.sleep(60)"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        told = ["train", f"hydra.run.dir={tmp_path / 'run'}", "resume=auto"]
        assert "another process is at work in" in one_sentence(rlhf_rm(*told))
        holder.kill()
        holder.wait()
        # Nobody is kept out by what a killed run has forked.
        assert "resume=nowhere is neither" in one_sentence(rlhf_rm(*told[:-1], "resume=nowhere"))
        os.killpg(holder.pid, signal.SIGKILL)


@pytest.mark.parametrize("override", ["data.path=~/x", "hydra.run.dir=a=b,c", "data.path=d(1"])
def test_an_override_that_cannot_be_read_says_how_to_quote(override):
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    from rlhf_rm.commands.sentence import sentence_of

    with pytest.raises(OverrideParseException) as error:
        OverridesParser.create().parse_overrides([override])
    assert f"{override} cannot be read: a value with " in sentence_of(error.value)
    assert ("$HOME" in sentence_of(error.value)) is ("~" in override)


def test_traceback_shows_where_on_request(monkeypatch, tmp_path):
    from rlhf_rm import cli
    from rlhf_rm.errors import UserError

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no run directory"):
        cli.run("evaluate", ["rlhf-rm", "run=.", "traceback=true"])


def test_help_is_quick_and_an_unknown_command_is_named():
    code = "import sys; sys.argv = ['rlhf-rm', 'train', '--help']\nfrom rlhf_rm import cli\n"
    code += "try:\n    cli.main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
    code += (
        "assert not {'torch', 'transformers', 'lightning'} & set(sys.modules), 'help must not import them'"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "python train.py -m" in shown.stdout
    assert "llama_12m" in shown.stdout
    unknown = subprocess.run(
        [sys.executable, "-m", "rlhf_rm.cli", "trian"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert unknown.returncode == 2
    assert unknown.stderr == "Error: trian is no command of rlhf-rm: did you mean train?\n"
