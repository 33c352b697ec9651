import json

import pytest


def test_curves_and_images_are_in_the_event_file(rlhf_rm, small, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    ended = rlhf_rm(
        "train", *small, "logger=tensorboard", "trainer.log_every_n_steps=1", f"hydra.run.dir={run}"
    )
    assert ended.code == 0, ended.err
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert len(events.Scalars("train/loss")) == 4
    assert {"test/reliability", "test/margins", "test/length"} <= set(events.Tags()["images"])
    assert (run / "metrics.csv").is_file()


def test_texts_are_in_the_event_file(rlhf_rm, small, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    ended = rlhf_rm("train", *small, "logger=tensorboard", "method=sft", f"hydra.run.dir={run}")
    assert ended.code == 0, ended.err
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    told = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    texts = events.Tensors("train/responses/text_summary")
    assert [one.step for one in texts] == [one["step"] for one in told]
    assert told[0]["texts"][0]["prompt"] in texts[0].tensor_proto.string_val[0].decode()
