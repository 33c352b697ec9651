"""What of a configuration is refused before anything is made."""

import pytest

from rlhf_rm.commands.checks import check_best, unread
from rlhf_rm.commands.compose import compose
from rlhf_rm.errors import UserError

BEST, STOPPING = ["callbacks=best"], ["callbacks=early_stopping"]
ALONE = [
    "callbacks.best=null",
    "callbacks.early_stopping.monitor=val/loss",
    "callbacks.early_stopping.mode=min",
]
META = ["method=meta_contrastive", "contrastive=simcse_pairs"]


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (BEST, None),
        ([*STOPPING, "callbacks.best.metric=val/accuracy_gold"], None),
        (["trainer.limit_val_batches=0"], None),
        ([*BEST, "callbacks.best.metric=val/shifted_spread", *META], None),
        ([*BEST, "callbacks.best.metric=val/cosine", *META], None),
        ([*BEST, "callbacks.best.metric=val/cosine"], "use one of val/accuracy, val/loss"),
        ([*STOPPING, "callbacks.early_stopping.monitor=val/acc"], "early_stopping.monitor=val/acc"),
        ([*STOPPING, *ALONE, "trainer.limit_val_batches=0.0"], "early_stopping looks at"),
    ],
)
def test_a_callback_looks_at_what_is_measured(tmp_path, told, sentence):
    cfg = compose("train", *told, run_dir=str(tmp_path))
    if sentence is None:
        check_best(cfg)
    else:
        with pytest.raises(UserError, match=sentence):
            check_best(cfg)


@pytest.mark.parametrize(
    ("method", "read"),
    [
        ("reward", []),
        ("ensemble", ["members.size"]),
        ("ppo", ["ppo.k", "sampling.temperature"]),
        ("meta", ["meta.k"]),
    ],
)
def test_what_was_typed_for_another_method_is_told(tmp_path, method, read):
    others = ["members.size", "ppo.k", "meta.k", "sampling.temperature"]
    cfg = compose("train", f"method={method}", run_dir=str(tmp_path))
    asked = [*others, "method", "loader.batch_size"]
    assert unread(cfg, asked) == [key for key in others if key not in read]
