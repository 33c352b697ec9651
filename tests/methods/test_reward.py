import pytest
import torch

from rlhf_rm.callbacks.checkpoint import checkpoints
from rlhf_rm.errors import UserError
from rlhf_rm.losses.base import PreferenceLoss


class Plain(PreferenceLoss):
    """Bradley-Terry without margin and target; wrong numbers for some pairs where told to."""

    reads_margin = False
    reads_target = False

    def __init__(self, spoil=None, at_call=0):
        super().__init__()
        self.spoil, self.at_call, self.calls = spoil, at_call, 0

    def forward(self, chosen_B, rejected_B, *, margin_B, target_B):
        loss_B = -torch.nn.functional.logsigmoid(chosen_B - rejected_B)
        if torch.is_grad_enabled():
            self.calls += 1
            if self.spoil is not None and self.calls > self.at_call:
                loss_B = self.spoil(loss_B)
        return loss_B


def training(tiny, directory, loss=None, source=None, data=None, gradient_clip=1.0, **trainer):
    tokenizer = tiny.make_tokenizer()
    module = tiny.make_module(tiny.make_model(tokenizer), loss=loss, gradient_clip=gradient_clip)
    datamodule = tiny.make_datamodule(source or tiny.Source(), tokenizer, **data or {})
    made = tiny.make_trainer(directory, **trainer)
    return made, module, datamodule


def second_is_nan(loss_B):
    return torch.where(torch.arange(len(loss_B)) == 1, torch.nan, loss_B)


def nan_gradient(loss_B):
    """A finite loss whose gradient is not."""
    zero = (loss_B - loss_B.detach()).abs()
    return loss_B + zero.sqrt()


@pytest.mark.parametrize(
    ("spoil", "what", "limit"),
    [
        (second_is_nan, "loss became nan", 1.0),
        (nan_gradient, "norm of the gradient became nan", 1.0),
        (nan_gradient, "norm of the gradient became nan", None),
    ],
)
def test_a_loss_that_is_no_number_stops_before_any_weight_changes(tiny, tmp_path, spoil, what, limit):
    loss = Plain(spoil, at_call=2)
    trainer, module, data = training(tiny, tmp_path, loss, gradient_clip=limit, limit_val_batches=0)
    seen = []
    trainer.callbacks.insert(0, Spy(seen))
    with pytest.raises(UserError) as error:
        trainer.fit(module, datamodule=data)
    message = str(error.value)
    assert f"the {what} at step 3, on pair train-" in message
    assert "checkpoints stay as they are" in message
    named = message.partition(" on ")[2].partition(":")[0]
    if spoil is second_is_nan:
        pair = data.source.pairs("train")[seen[-1]["index"][1]]
        assert named == f"pair {pair.id} ({pair.pair_id[:16]}…)"
    else:
        assert named.count("train-") == 4
    for name, weight in module.state_dict().items():
        assert torch.equal(weight, seen[-1]["weights"][name])
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000001.ckpt", "step_00000002.ckpt"]
    saved = torch.load(checkpoints(tmp_path)[-1], weights_only=False)["state_dict"]
    assert all(torch.equal(saved[name], weight) for name, weight in module.state_dict().items())


def Spy(seen):
    import lightning as L

    class _Spy(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            seen.append(
                {
                    "index": [int(i) for part in batch for i in part.index_B],
                    "weights": {name: w.clone() for name, w in module.state_dict().items()},
                }
            )

    return _Spy()


def test_a_model_that_gives_every_response_one_reward_is_told(tiny, tmp_path, capsys):
    trainer, module, data = training(tiny, tmp_path)
    torch.nn.init.zeros_(module.model.network.score.weight)
    trainer.validate(module, datamodule=data, verbose=False)
    assert "every response of the validation split has the same reward" in capsys.readouterr().out
    torch.nn.init.normal_(module.model.network.score.weight)
    trainer.validate(module, datamodule=data, verbose=False)
    assert "same reward" not in capsys.readouterr().out


def test_rewards_that_are_no_numbers_are_not_measured(tiny, tmp_path):
    trainer, module, data = training(tiny, tmp_path)
    torch.nn.init.constant_(module.model.network.score.weight, torch.nan)
    with pytest.raises(UserError, match="rewards that are no finite numbers"):
        trainer.test(module, datamodule=data, verbose=False)


def test_a_column_that_the_loss_would_ignore_is_refused(tiny, tmp_path):
    trainer, module, data = training(tiny, tmp_path, Plain(), tiny.Source(margin=0.5))
    with pytest.raises(UserError, match="has a margin column that Plain does not read"):
        trainer.fit(module, datamodule=data)
    trainer, module, data = training(tiny, tmp_path, Plain())
    data.split("train").labels.target[3] = 0.7
    with pytest.raises(UserError, match="has a target column that Plain does not read"):
        trainer.fit(module, datamodule=data)
    trainer, module, data = training(tiny, tmp_path, Plain(), max_steps=1, limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 1


def test_the_test_measures_every_pair_once_with_the_models_rewards(tiny, tmp_path):
    trainer, module, data = training(tiny, tmp_path)
    trainer.test(module, datamodule=data, verbose=False)
    found, split = module.test_rewards, data.split("test")
    assert found.index.tolist() == list(range(7))
    for i, tree in enumerate(split.trees):
        for reward, tokens, ids, prompt in (
            (found.chosen, found.chosen_tokens, tree.branches[0], tree.prompt_tokens[0]),
            (found.rejected, found.rejected_tokens, tree.branches[1], tree.prompt_tokens[1]),
        ):
            with torch.no_grad():
                alone = module.model.network(input_ids=torch.from_numpy(ids).long()[None]).logits[0, 0]
            assert float(reward[i]) == pytest.approx(float(alone), abs=1e-5)
            assert tokens[i] == len(ids) - prompt
    results = module.results()["sets"]["test"]
    assert results["pairs"] == 7
    right = (found.chosen > found.rejected).float().mean()
    assert results["accuracy"] == pytest.approx(float(right))
    assert float(trainer.callback_metrics["test/accuracy"]) == pytest.approx(float(right))


def test_training_learns_what_tells_the_responses_apart(tiny, tmp_path):
    # Every rejected response ends in a question mark.
    trainer, module, _ = tiny.fit(
        tmp_path, max_epochs=4, limit_val_batches=0, every_n_steps=99, module={"lr": 1e-2}
    )
    trainer.test(module, datamodule=trainer.datamodule, verbose=False)
    assert module.results()["sets"]["test"]["accuracy"] == 1.0
