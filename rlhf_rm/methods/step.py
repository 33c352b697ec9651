"""One item of the training loader is one optimiser step: the part that all methods share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel

from rlhf_rm.data.batch import Step
from rlhf_rm.errors import UserError
from rlhf_rm.methods.memory import explaining_memory
from rlhf_rm.models.frozen import frozen_names
from rlhf_rm.models.language import LanguageModel
from rlhf_rm.strategies.deepspeed import DeepSpeedStrategy
from rlhf_rm.strategies.fsdp import whole
from rlhf_rm.strategies.sharded import Sharded

TEXTS_SHOWN = 4  # responses that are kept to be read, each time some are drawn
OptimizerFactory = Callable[..., Optimizer]
SchedulerFactory = Callable[..., LRScheduler]


class StepModule(L.LightningModule, ABC):
    """Optimises over packed micro-batches; a subclass says what each of them loses.

    However a step is packed, its gradient is that of the weighted mean over all examples of all
    ranks. Optimisation is manual, since one step runs several backward passes.

    Args:
        optimizer: called with the parameter groups.
        scheduler: called with the optimiser and ``total_steps``; stepped after every step.
        gradient_clip: largest norm of the gradient; None to leave it alone.

    Attributes:
        model: what is trained.
        shards: whether it may lie in shards on several ranks (FSDP2).
        zero: whether DeepSpeed may train it.
        measures: what is logged of validation as ``val/NAME`` and of the test as ``test/NAME``.
        validated: how names begin of what is logged of validation alone, as ``val/NAME``.
        history: what is worth reading of the run so far, such as ``{"step": 8, "texts": [{…}]}``.
    """

    measures: tuple[str, ...]
    validated: tuple[str, ...] = ()
    shards = False
    zero = False
    model: Any

    def __init__(
        self, optimizer: OptimizerFactory, scheduler: SchedulerFactory, gradient_clip: float | None
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.optimizer_factory, self.scheduler_factory = optimizer, scheduler
        self.gradient_clip = gradient_clip
        self.validated_step = -1
        self.history: list[dict[str, Any]] = []

    def configure_model(self) -> None:
        """Shard the models where the strategy does."""
        if isinstance(self.trainer.strategy, Sharded):
            for model in self.sharded():
                self.trainer.strategy.shard(model)

    def sharded(self) -> list[nn.Module]:
        """The models that lie in shards, where any do; each is run by ``forward`` and its ``passes``."""
        return [self.model]

    def whole_network(self, model: LanguageModel) -> PreTrainedModel:
        """A network to draw responses from; where it lies in shards, a copy, for which all ranks must ask."""
        if isinstance(self.trainer.strategy, Sharded):
            return self.trainer.strategy.whole_network(model)
        return model.network

    def evened(self, step: Step[Any], idle: Callable[[torch.device], Any]) -> Step[Any]:
        """A step of as many passes as the longest of any rank, where ranks work together in each pass.

        Args:
            step: of this rank.
            idle: makes a micro-batch without examples.
        """
        if self.trainer.world_size == 1 or not isinstance(self.trainer.strategy, Sharded):
            return step
        most = self.trainer.strategy.reduce(torch.tensor(len(step), device=self.device), reduce_op="max")
        missing = int(most) - len(step)
        return Step((*step, *(idle(self.device) for _ in range(missing))))

    def trained_state(self) -> dict[str, Tensor]:
        """The state without what is frozen: the weights of a pretrained model need not be kept again."""
        return self._trained(self.state_dict())

    def _trained(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # Members of an ensemble share what is frozen: it has a name in each of them.
        named = self.named_parameters(remove_duplicate=False)
        frozen = {name for name, parameter in named if not parameter.requires_grad}

        def is_frozen(name: str) -> bool:
            # A quantised weight's scales lie under its own name.
            return name in frozen or f"{name.partition('.weight.')[0]}.weight" in frozen

        return {name: value for name, value in state.items() if not is_frozen(name)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is trained, what the frozen weights are known by, and the history."""
        checkpoint["state_dict"] = self._trained(checkpoint["state_dict"])
        checkpoint["frozen"] = frozen_names(self)
        checkpoint["history"] = list(self.history)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the history back.

        Raises:
            UserError: the checkpoint was made over other frozen weights.
        """
        before, now = checkpoint.get("frozen", {}), frozen_names(self)
        # What lay in shards then, or lies in shards now, has no name.
        if any(before[name] != now[name] for name in before.keys() & now.keys()):
            raise UserError(
                "the checkpoint was made over other frozen weights than these: go on with the settings of "
                "its run (model, base, seed, reward models), which lie in the run's config.yaml, or start "
                "anew."
            )
        self.history = list(checkpoint.get("history", []))

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """As in PyTorch, but what is frozen may be missing, and stays as it is.

        Raises:
            RuntimeError: a trained weight is missing, or one is there that this model has not.
        """
        if strict:
            self.check_state(state_dict)
        return super().load_state_dict(state_dict, strict=False, assign=assign)

    def check_state(self, state_dict: Mapping[str, Any]) -> None:
        """Refuse a state that is not this model's; what is frozen may be missing.

        Raises:
            RuntimeError: see above.
        """
        missing = sorted(self.trained_state().keys() - state_dict.keys())
        unknown = sorted(state_dict.keys() - self.state_dict().keys())
        if missing or unknown:
            raise RuntimeError(
                f"the state_dict is that of another model: {len(missing)} weights are missing and "
                f"{len(unknown)} unknown, such as {(missing + unknown)[0]}."
            )

    def close(self) -> None:
        """Give back what the module holds beside its weights; called when a run is over, however it ended."""

    def on_validation_end(self) -> None:
        """Remember after which step it was."""
        self.validated_step = self.global_step

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One optimiser with parameter groups, and its schedule over the whole run."""
        if self.gradient_clip is not None and self.scales_loss:
            raise UserError(
                "trainer.precision=16-mixed scales gradients, so method.module.gradient_clip would clip the "
                "wrong numbers: use bf16-mixed, or method.module.gradient_clip=null."
            )
        optimizer = self.optimizer_factory(self.parameter_groups())
        total = max(1, int(self.trainer.estimated_stepping_batches))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.scheduler_factory(optimizer, total_steps=total)},
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser is given: see :func:`parameter_groups`."""
        return parameter_groups(self)

    @abstractmethod
    def results(self) -> dict[str, Any]:
        """What ``metrics.json`` holds of the test: ``{"sets": {name: {metric: value}}}``.

        Without a test (``trainer.limit_test_batches=0``) there are no sets.
        """

    def step(
        self,
        step: Step[Any],
        weight: Tensor,
        loss_sum: Callable[[Any], Tensor],
        culprits: Callable[[], list[str]],
    ) -> Tensor:
        """Run one optimiser step and return its mean loss over all ranks.

        Args:
            step: the micro-batches.
            weight: sum of the weights of this rank's examples; what the loss is divided by, over
                all ranks.
            loss_sum: the weighted sum of the losses of one micro-batch, differentiable.
            culprits: names of the examples whose loss is not finite, for the message.

        Raises:
            UserError: the loss or its gradient is NaN or infinite; no weight has changed then.
        """
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        mean = self.accumulate(step, weight, loss_sum, culprits)
        if not (self._in_engine or self.scales_loss):
            for name, parameters in self.clipped_together().items():
                norm = whole(torch.nn.utils.clip_grad_norm_(parameters, self.largest_norm))
                if not torch.isfinite(norm):
                    self._refuse("norm of the gradient", norm, culprits())
                self.log(f"train/{name}", norm)
        self.advance(mean)
        if self._in_engine:
            self._check_step(culprits)
        return mean

    @property
    def largest_norm(self) -> float:
        """To which gradients are clipped; infinity, without a limit, leaves all but NaN as it is."""
        return math.inf if self.gradient_clip is None else self.gradient_clip

    @property
    def scales_loss(self) -> bool:
        """Whether gradients are scaled; steps whose gradient is not finite are left out then."""
        return bool(self.trainer.precision == "16-mixed")

    @property
    def _in_engine(self) -> bool:
        """Whether DeepSpeed clips gradients and takes steps."""
        return isinstance(self.trainer.strategy, DeepSpeedStrategy)

    def _check_step(self, culprits: Callable[[], list[str]]) -> None:
        strategy: Any = self.trainer.strategy
        norm = strategy.gradient_norm()
        if not torch.isfinite(norm):
            self._refuse("norm of the gradient", norm, culprits())
        self.log("train/grad_norm", norm)

    def clipped_together(self) -> dict[str, list[nn.Parameter]]:
        """Parameters whose gradient has one norm, by the name under which it is logged."""
        return {"grad_norm": [p for p in self.parameters() if p.requires_grad]}

    def accumulate(
        self,
        step: Step[Any],
        weight: Tensor,
        loss_sum: Callable[[Any], Tensor],
        culprits: Callable[[], list[str]],
    ) -> Tensor:
        """Add the gradient of a step's mean loss over all ranks, and return that loss; see :meth:`step`."""
        total_weight = self.sum_over_ranks(weight)
        # DDP takes the mean of the ranks' gradients; times their number it is the sum.
        scale = self.trainer.world_size / total_weight
        total = torch.zeros((), device=self.device)
        for i, micro_batch in enumerate(step):
            with self._without_sync(i < len(step) - 1), explaining_memory(micro_batch):
                loss = loss_sum(micro_batch)
                self.manual_backward(loss * scale)
                total += loss.detach().float()
        mean = self.sum_over_ranks(total) / total_weight
        if not torch.isfinite(mean):
            self._refuse("loss", mean, culprits())
        return mean

    def advance(self, mean: Tensor) -> None:
        """Let the optimiser and the schedule take their step, and log the mean loss."""
        optimizer: Any = self.optimizers()
        optimizer.step()
        scheduler: Any = self.lr_schedulers()
        scheduler.step()
        self.log("train/loss", mean, prog_bar=True)
        self.log("train/lr", optimizer.param_groups[0]["lr"])

    def _refuse(self, what: str, value: Tensor, culprits: list[str]) -> NoReturn:
        self.zero_grad()
        where = f", on {', '.join(culprits[:4])}" if culprits else ""
        more = f" and {len(culprits) - 4} others" if len(culprits) > 4 else ""
        look = " or look at these examples" if culprits else ""
        raise UserError(
            f"the {what} became {value.item()} at step {self.global_step + 1}{where}{more}: "
            f"lower optimizer.lr{look}; checkpoints stay as they are."
        )

    def in_precision(self) -> AbstractContextManager[None]:
        """The precision of the training, for passes outside of Lightning's steps, which have it anyway."""
        return self.trainer.precision_plugin.forward_context()

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """Of what each rank has."""
        return self.trainer.strategy.reduce(value.clone(), reduce_op="sum")

    def _without_sync(self, skip: bool) -> Any:
        """Hold gradients back from the other ranks until the step's last backward pass."""
        if isinstance(self.trainer.strategy, DeepSpeedStrategy):
            self.trainer.strategy.begin_pass(last=not skip)
            return nullcontext()
        model: Any = self.trainer.model
        return model.no_sync() if skip and hasattr(model, "no_sync") else nullcontext()


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices, which decay, and biases and norms, which do not."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    matrices = [p for _, p in named if p.ndim >= 2]
    vectors = [p for _, p in named if p.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": matrices}] if matrices else []
    return groups + ([{"params": vectors, "weight_decay": 0.0}] if vectors else [])
