import io

import lightning as L
import pytest
from rich.console import Console

from rlhf_rm.callbacks.progress import CellText, TrainingProgress
from rlhf_rm.callbacks.throughput import Throughput


def shown(tiny, directory, terminal, line_seconds=0.0):
    bar = TrainingProgress("training", line_seconds)
    out = io.StringIO()
    bar.console = Console(file=out, force_terminal=terminal, width=160)
    tiny.fit(
        directory,
        watch=None,
        max_epochs=2,
        every_n_steps=99,
        enable_progress_bar=True,
        also=[Throughput(1), bar],
    )
    return out.getvalue()


def test_without_a_terminal_there_are_lines_with_the_numbers_that_matter(tiny, tmp_path):
    lines = shown(tiny, tmp_path, terminal=False).splitlines()
    assert [line.split(":")[1].split(",")[0] for line in lines if "validation:" not in line] == [
        *(f" step {n}/12" for n in range(1, 13)),
        " done",
    ]
    for word in ("loss 0.", "accuracy ", " pairs/s", " tokens/s"):
        assert word in lines[-1], lines[-1]
    assert any(
        "training: step 6, validation: " in line and "accuracy" in line and "loss" in line for line in lines
    )


def test_a_line_every_so_often_only(tiny, tmp_path):
    lines = shown(tiny, tmp_path, terminal=False, line_seconds=1000).splitlines()
    assert len([line for line in lines if "validation:" not in line]) == 1


def test_on_a_terminal_there_is_a_bar(tiny, tmp_path):
    text = shown(tiny, tmp_path, terminal=True)
    assert "12/12" in text
    assert "left" in text
    assert "pairs/s" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_failure_gives_the_terminal_back(tiny, tmp_path, terminal):
    bar = TrainingProgress("training", 10)
    bar.console = Console(file=io.StringIO(), force_terminal=terminal)
    trainer = tiny.make_trainer(tmp_path, max_steps=1)
    bar._total = lambda trainer: 1.0
    bar.on_train_start(trainer, None)
    assert (bar._bar is not None) == terminal
    bar.on_exception(trainer, None, KeyboardInterrupt())
    assert bar._bar is None


def test_in_a_notebook_one_text_is_rewritten_and_ends_with_what_is_worth_keeping(tiny, tmp_path, monkeypatch):
    shown = []

    class Handle:
        def update(self, text, raw):
            shown[-1].append(text["text/plain"])

    def display(text, raw, display_id):
        shown.append([text["text/plain"]])
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    bar = TrainingProgress("training", 1000)
    bar._cell, bar._between_lines = CellText(), 0.0
    for directory in ("first", "second"):
        tiny.fit(tmp_path / directory, every_n_steps=99, enable_progress_bar=True, also=[bar])
    assert len(shown) == 2  # a text for each training
    assert shown[0][0].startswith("training: step 1/6, loss ")
    assert [line.split(", ")[:2] for line in shown[0][-1].splitlines()] == [
        ["training: step 6", shown[0][-1].splitlines()[0].split(", ")[1]],
        ["training: done", "6 steps"],
    ]
    assert shown[0][-1].splitlines()[0].startswith("training: step 6, validation: accuracy ")


def test_other_ranks_are_silent(capsys):
    bar = TrainingProgress("training", 10)
    bar.disable()
    bar.print("hello")
    assert capsys.readouterr().out == ""


def test_what_a_module_prints_comes_through(tiny, tmp_path):
    class Say(L.Callback):
        def on_train_start(self, trainer, module):
            module.print("Warning: of a module")

    bar = TrainingProgress("training", 0.0)
    out = io.StringIO()
    bar.console = Console(file=out, force_terminal=False, width=160)
    tiny.fit(tmp_path, enable_progress_bar=True, also=[Throughput(1), bar, Say()])
    assert "Warning: of a module" in out.getvalue()
    bar.disable()
    assert not bar.is_enabled
