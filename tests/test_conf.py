"""Every YAML under conf/ composes, and every one that can runs here does, for a step of each kind."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from transformers import AutoConfig, AutoModel

from rlhf_rm.models.tokenizer import save_tokenizer, train_byte_bpe

CONF = Path(__file__).resolve().parents[1] / "conf"
PRIMARY = (
    *("train", "evaluate", "score", "export", "audit", "vote", "report", "sample", "judge", "iterate"),
    "paper",
)
SHARED = ("command", "scoring")  # parts of the primary configurations
# Needs processes of its own: tests/test_cli_ddp.py. Has nothing to train on: tests/data/test_hub.py. Has no
# preferences: tests/data/test_dialogues.py. Sweeps and settings: test_report.py, test_paper_llama2.py and
# test_paper.py in commands.
NEED_A_GPU = {("attention", "flash"), ("attention", "flex")}
ELSEWHERE = {
    ("strategy", "ddp"),
    ("strategy", "deepspeed_zero2"),
    ("strategy", "deepspeed_zero3"),
    ("data", "rewardbench"),
    ("data", "dialogues"),
    *NEED_A_GPU,
    *(("experiment", name) for name in ("deciles", "denoise", "paper_llama2", "paper_synthetic")),
}
# What training does not read, and which command does: whole groups, and options of others.
COMMAND_OF = {"sampling": "sample", "judge": "judge", "experiment=paper_synthetic": "paper"}
# `debug=tiny` is in the small overrides already; tests/commands/test_sample.py samples,
# tests/commands/test_judge.py and tests/judging judge.
COVERED = {
    ("debug", "tiny"),
    ("sampling", "default"),
    *(("judge", one) for one in ("gold", "reward", "endpoint")),
}
STAND_INS = {
    "llama2_7b": "llama",
    "llama3_8b": "llama",
    "qwen3_0_6b": "qwen3",
    "qwen3_8b": "qwen3",
    "minilm": "bert",
}
OWN_TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token }}{% endfor %}"


def options() -> list[tuple[str, str]]:
    files = sorted(CONF.rglob("*.yaml"))
    return [(path.parent.name, path.stem) for path in files if path.parent != CONF]


def test_every_file_is_a_command_a_part_of_one_or_an_option():
    top = {path.stem for path in CONF.glob("*.yaml")}
    assert top == {*PRIMARY, *SHARED}
    assert all(path.parent.parent == CONF for path in CONF.rglob("*.yaml") if path.parent != CONF)


@pytest.mark.parametrize("name", PRIMARY)
def test_commands_compose(name):
    overrides = {"audit": ["data=synthetic"], "judge": ["judge=gold"]}.get(name, [])
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert "traceback" in compose(name, overrides)


@pytest.mark.parametrize(("group", "option"), options())
def test_options_compose(group, option):
    chosen = f"{group}={option}"
    command = COMMAND_OF.get(chosen, COMMAND_OF.get(group, "train"))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(command, overrides=[chosen])
    assert command != "train" or cfg.method.module._target_.startswith("rlhf_rm.methods.")


def test_every_option_says_what_it_is():
    silent = [
        str(path.relative_to(CONF))
        for path in CONF.rglob("*.yaml")
        if "#" not in path.read_text() and "_target_" not in path.read_text()
    ]
    assert silent == []


@pytest.mark.parametrize(("group", "option"), [pair for pair in options() if pair not in ELSEWHERE | COVERED])
def test_options_run(rlhf_rm, small, tmp_path, world_strengths, group, option):
    overrides = [*small, "trainer.fast_dev_run=true", f"hydra.run.dir={tmp_path / 'run'}"]
    if group == "data" and option != "synthetic":
        overrides = [o for o in overrides if not o.startswith("data.")] + data_of(option, tmp_path)
    if group == "model":
        overrides = [o for o in overrides if not o.startswith("model.")]
        if option in STAND_INS:
            overrides.append(f"model.path={stand_in(option, tmp_path / 'hub')}")
        else:
            overrides.append("model.architecture.num_hidden_layers=1")
    if group == "denoise" or option == "denoised":
        recipe = ["method=denoised"] if group == "denoise" else ["denoise=flip"]
        overrides += [*recipe, f"denoise.strengths={world_strengths}", "denoise.recipe.steps.slice.of=2"][
            : 3 if option == "slice" else 2
        ]
    if group == "contrastive":
        overrides.append("method=contrastive")
    if option in ("contrastive", "meta_contrastive"):
        overrides.append("contrastive=simcse_pairs")
    ended = rlhf_rm("train", *overrides, f"{group}={option}")
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["steps"] == 1
    assert list((tmp_path / "run" / "export").glob("**/tokenizer_config.json"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("group", "option"), sorted(NEED_A_GPU))
def test_what_needs_a_gpu_says_so(rlhf_rm, small, tmp_path, group, option):
    ended = rlhf_rm("train", *small, f"{group}={option}", f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 2
    assert ended.err.startswith(f"Error: {group}={option} ") and "use attention=auto." in ended.err
    assert "Traceback" not in ended.err


def data_of(option: str, directory: Path) -> list[str]:
    """What a data option needs to be told: a file, a directory as the hub's sets are, or sources."""
    if option == "mixture":
        path = preferences(directory / "pairs.jsonl")
        return ["+data@data.sources.one=hh", f"data.sources.one.path={path}", "+data.weights.one=0.7"]
    if option == "flipped":
        path = preferences(directory / "pairs.jsonl")
        return ["+data@data.source=hh", f"data.source.path={path}"]
    if option in ("hh", "jsonl"):
        return [f"data.path={preferences(directory / 'pairs.jsonl')}"]
    splits = ("train_prefs", "test_prefs") if option == "ultrafeedback" else ("train", "test")
    card = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split in splits:
        preferences(directory / "set" / f"{split}.jsonl", split)
        card += [f"  - split: {split}", f"    path: {split}.jsonl"]
    (directory / "set" / "README.md").write_text("\n".join([*card, "---", ""]))
    return [f"data.path={directory / 'set'}"]


def preferences(path: Path, name: str = "") -> Path:
    """HH dialogues, which every source reads."""
    path.parent.mkdir(exist_ok=True)
    turn = f"\n\nHuman: Question {name} {{}}?\n\nAssistant: {{}}"
    rows = [
        {"chosen": turn.format(i, f"Yes {i}."), "rejected": turn.format(i, f"No {i}!")} for i in range(80)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def stand_in(option: str, directory: Path) -> Path:
    """A tiny model of a hub model's architecture, saved as the hub has it, some without a pad token."""
    kind = STAND_INS[option]
    texts = ["Question yes no"] * 4
    tokenizer = encoder_tokenizer() if kind == "bert" else train_byte_bpe(texts, vocab_size=300)
    if kind == "llama":
        tokenizer.pad_token = None
    if option != "llama2_7b" and kind != "bert":
        tokenizer.chat_template = OWN_TEMPLATE
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    decoder = {"num_key_value_heads": 1, "head_dim": 8} if kind != "bert" else {}
    config = AutoConfig.for_model(
        kind,
        **size,
        **decoder,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    AutoModel.from_config(config).save_pretrained(directory)
    save_tokenizer(tokenizer, directory)
    return directory


def encoder_tokenizer():
    """A WordPiece tokenizer between CLS and SEP, as BERT's is."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789.?!,"]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    core = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
