"""A run that was resumed, moved and exported again scores as before."""

import json
import shutil


def test_a_resumed_a_moved_and_a_re_exported_run_score_equal(rlhf_rm, small, tmp_path):
    told = [*small, "trainer.max_epochs=-1", "callbacks.checkpoint.every_n_steps=1", "loader.batch_size=8"]
    asked = tmp_path / "asked.jsonl"
    rows = [{"prompt": f"How do I cut rope {i}?", "response": "Take a knife. " * (i + 1)} for i in range(6)]
    asked.write_text("\n".join(map(json.dumps, rows)))

    def scores(directory):
        output = tmp_path / "scored.jsonl"
        ended = rlhf_rm("score", f"run={directory}", f"input={asked}", f"output={output}")
        assert ended.code == 0, ended.err
        return [json.loads(line)["reward"] for line in output.read_text().splitlines()]

    whole, resumed, moved = (tmp_path / name for name in ("whole", "resumed", "elsewhere/moved"))
    assert rlhf_rm("train", *told, "trainer.max_steps=4", f"hydra.run.dir={whole}").code == 0
    expected = scores(whole)
    assert len(set(expected)) > 1
    newest = resumed / "checkpoints"
    newest.mkdir(parents=True)
    shutil.copy(whole / "checkpoints" / "step_00000003.ckpt", newest)
    ended = rlhf_rm("train", *told, "trainer.max_steps=4", f"hydra.run.dir={resumed}", "resume=auto")
    assert ended.code == 0 and "step_00000003" in ended.out, ended.err
    assert scores(resumed) == expected
    moved.parent.mkdir()
    shutil.move(resumed, moved)
    assert scores(moved) == expected
    exported = tmp_path / "exported"
    ended = rlhf_rm("export", f"run={moved}", f"output={exported}")
    assert ended.code == 0, ended.err
    assert scores(exported) == expected
