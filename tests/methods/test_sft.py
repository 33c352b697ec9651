import math
from functools import partial

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlhf_rm.data.sft import SFTDataModule
from rlhf_rm.methods.schedules import warmup_constant
from rlhf_rm.methods.sft import SFTModule
from rlhf_rm.models.attention.sdpa import SDPAAttention
from rlhf_rm.models.generate import Sampling
from rlhf_rm.models.language import LanguageModel


@pytest.fixture
def run(tiny, tmp_path):
    def make(layout="packed", row_tokens=150, micro_tokens=300, lr=1e-2, **trainer):
        tokenizer = tiny.make_tokenizer()
        torch.manual_seed(0)
        config = tiny.make_config(tokenizer)
        model = LanguageModel(
            AutoModelForCausalLM.from_config(config, attn_implementation="sdpa"), SDPAAttention()
        )
        module = SFTModule(
            model.train(),
            partial(torch.optim.SGD, lr=lr),
            partial(warmup_constant, warmup=0.0),
            None,
            sampling=Sampling(5, 1.0, 1.0, 1.0),
        )
        data = SFTDataModule(
            tiny.Source(),
            tokenizer,
            layout=layout,
            max_length=200,
            too_long="error",
            batch_size=6,
            eval_batch_size=3,
            row_tokens=row_tokens,
            micro_tokens=micro_tokens,
            row_multiple=1,
            workers=0,
            seed=0,
        )
        watch = SFTWatch(tiny)
        made = tiny.make_trainer(tmp_path, [watch], every_n_steps=999, **trainer)
        return made, module, data, watch

    return make


def SFTWatch(tiny):
    class _Watch(tiny.L.Callback):
        def __init__(self):
            self.losses = []

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.losses.append(float(trainer.callback_metrics["train/loss"]))

    return _Watch()


def test_a_step_is_the_mean_over_its_response_tokens_however_it_is_packed(run):
    ends = []
    for settings in ({"micro_tokens": 1}, {"row_tokens": 999, "micro_tokens": 9999}, {"layout": "padded"}):
        trainer, module, data, watch = run(**settings, lr=0.5, max_steps=2, limit_val_batches=0)
        trainer.fit(module, datamodule=data)
        ends.append((watch.losses, [p.detach() for p in module.parameters()]))
    assert ends[0][0][0] == pytest.approx(math.log(280), abs=0.3)
    for losses, weights in ends[1:]:
        assert losses == pytest.approx(ends[0][0], abs=1e-5)
        for got, want in zip(weights, ends[0][1], strict=True):
            torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_the_evaluation_weighs_tokens_and_not_batches(run):
    trainer, module, data, _ = run()
    trainer.test(module, datamodule=data, verbose=False)
    with torch.no_grad():
        everything = torch.cat([module.model(text) for text in data.step("test", range(7))])
    got = module.results()["sets"]["test"]
    assert got["loss"] == pytest.approx(float(everything.mean()), abs=1e-5)
    assert got["perplexity"] == pytest.approx(math.exp(got["loss"]))


def test_training_lowers_the_loss(run):
    trainer, module, data, watch = run(lr=1.0, max_epochs=4, limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    assert watch.losses[-1] < watch.losses[0] - 1
