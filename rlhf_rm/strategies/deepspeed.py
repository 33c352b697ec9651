"""DeepSpeed's ZeRO: the optimiser's states, gradients and, in its third stage, the weights in shards."""

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from rlhf_rm.errors import UserError
from rlhf_rm.strategies.sharded import Sharded, disable_alike, without_weights
from rlhf_rm.strategies.sharded_checkpoint import is_sharded
from rlhf_rm.strategies.zero_state import OptimizerShares

STAGES = (2, 3)


class DeepSpeedStrategy(Sharded, DDPStrategy):
    """Trains with DeepSpeed's engine; a checkpoint is that of one process, gathered and written by rank 0.

    Lightning's own strategy for DeepSpeed takes one backward pass a step and writes pickled code. Here a
    step is as many passes as it takes, a checkpoint goes on under any strategy and number of ranks, and
    ``bf16-mixed`` is autocast over float32 weights, as everywhere.

    Args:
        stage: 2 shards gradients and the optimiser's states, 3 the weights too.
        timeout_seconds: how long a rank waits for the others.
        settings: what else DeepSpeed is told under ``zero_optimization``, such as sizes of buckets.

    Raises:
        UserError: another stage, or settings that move anything to the CPU or a disk.
    """

    def __init__(self, stage: int, timeout_seconds: float, settings: Mapping[str, Any]) -> None:
        if stage not in STAGES:
            raise UserError(f"stage={stage} is not supported: use one of {', '.join(map(str, STAGES))}.")
        self.settings = dict(settings)
        moving = [name for name in self.settings if "offload" in name]
        if moving:
            raise UserError(f"settings.{moving[0]} is not supported: nothing is kept on the CPU or a disk.")
        super().__init__(timeout=timedelta(seconds=timeout_seconds))
        self.stage = stage
        self._linear = F.linear
        self.engine: Any = None  # DeepSpeed's, from the beginning of the training on
        self._groups: list[list[nn.Parameter]] = []  # of the optimiser, before ZeRO made them flat
        self._empty: dict[nn.Module, PreTrainedModel] = {}  # what each network was, less its weights

    def setup_distributed(self) -> None:
        """As in the base class, through DeepSpeed."""
        import deepspeed
        from deepspeed.runtime.zero.parameter_offload import FWD_MODULE_STACK
        from deepspeed.utils import groups

        self.set_world_ranks()
        if self.root_device.index not in (None, self.local_rank):
            raise UserError(
                f"trainer.devices picks GPU {self.root_device.index} for local rank {self.local_rank}, and "
                "DeepSpeed takes the GPU of that number: set CUDA_VISIBLE_DEVICES, and give their number."
            )
        environment: Any = self.cluster_environment
        os.environ |= {
            "MASTER_ADDR": environment.main_address,
            "MASTER_PORT": str(environment.main_port),
            "RANK": str(self.global_rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(self.local_rank),
        }
        backend = self._get_process_group_backend()
        if backend == "gloo":
            # DeepSpeed would compile a way around it, with whatever compiler there is.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        if not torch.distributed.is_initialized():
            # Of a run before this one, in the same process.
            groups._release_process_group_references()
            FWD_MODULE_STACK.clear()
        deepspeed.init_distributed(backend, timeout=self._timeout, verbose=False)

    def setup(self, trainer: L.Trainer) -> None:
        """Begin a training; what is measured after it finds the model as the training left it."""
        if trainer.state.fn == TrainerFn.FITTING or self.engine is None:
            super().setup(trainer)

    def teardown(self) -> None:
        """Leave the model where it is: what lies in shards is not moved to the CPU by moving a module.

        But take PyTorch's linear layers back, which the third stage replaces for all that follows.
        """
        F.linear = self._linear

    def shard(self, model: nn.Module) -> None:
        """Keep what a network is less its weights, before they are taken from it."""
        network = getattr(model, "network", None)
        if self.stage == 3 and network is not None and network not in self._empty:
            self._empty[network] = without_weights(network)

    def configure_ddp(self) -> None:
        """DeepSpeed takes the place of DDP once there is an optimiser."""

    def setup_optimizers(self, trainer: L.Trainer) -> None:
        """Make the optimiser, and give it and the weights to DeepSpeed."""
        import deepspeed

        super().setup_optimizers(trainer)
        (optimizer,) = self.optimizers
        self._groups = [list(group["params"]) for group in optimizer.param_groups]
        module: Any = self.lightning_module
        self.engine, zero, _, _ = deepspeed.initialize(
            model=module,
            optimizer=optimizer,
            dist_init_required=False,
            config={
                "zero_optimization": {**self.settings, "stage": self.stage},
                "zero_allow_untested_optimizer": True,
                "gradient_clipping": module.gradient_clip or 0.0,
                "train_micro_batch_size_per_gpu": 1,  # for its own speedometer, which waits for the GPU
                "timers": {"throughput": {"enabled": False, "synchronized": False}},
            },
        )
        self.optimizers = [zero]
        if self.stage == 3:
            zero.parameter_offload.fwd_pre_hook.remove()  # begin_pass does what it does

    def begin_pass(self, last: bool) -> None:
        """Tell the engine that a forward and a backward pass follow, of a model that it would run itself.

        Args:
            last: the optimiser steps after it.
        """
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.optimizer.clear_backward_seen_flag()
        self._begin_forward()

    def _begin_forward(self) -> None:
        if self.engine is not None and self.stage == 3:
            self.engine.optimizer.parameter_offload.get_param_coordinator().reset_step()

    def validation_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """As in the base class; what it gathers is not what a training pass gathers."""
        self._begin_forward()
        return super().validation_step(*args, **kwargs)

    def test_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """See :meth:`validation_step`."""
        self._begin_forward()
        return super().test_step(*args, **kwargs)

    def backward(self, closure_loss: Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Add a gradient to what each rank holds of it."""
        self.engine.backward(closure_loss)
        return closure_loss

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any], model: Any = None, **kwargs: Any
    ) -> None:
        """Clip the gradient, let the optimiser step on this rank's share, and gather what it changed."""
        closure()
        self.engine.step()

    def gradient_norm(self) -> Tensor:
        """Of the last step, before it was clipped; infinite where that step changed no weight."""
        norm = self.engine.get_global_grad_norm() if self.engine.was_step_applied() else torch.inf
        return torch.as_tensor(norm, device=self.root_device)

    def whole(self, module: Any) -> dict[str, Tensor]:
        """See the base class."""
        return self._whole(module, module.state_dict())

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of the module: what is trained of it."""
        module: Any = self.lightning_module
        return self._whole(module, module.trained_state())

    def _whole(self, module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        parameters = dict(module.named_parameters(remove_duplicate=False))
        gathered: dict[int, Tensor] = {}  # tied weights have two names
        found = {}
        self._settle()
        for name, value in state.items():
            kept = value
            if name in parameters:
                one = parameters[name]
                if id(one) not in gathered:
                    whole = self._gathered(one)
                    gathered[id(one)] = whole.cpu() if self.is_global_zero else whole.new_empty(0)
                kept = gathered[id(one)]
            if self.is_global_zero:
                found[name] = kept.cpu()
        return found

    def _settle(self) -> None:
        """Let go of what was gathered ahead of a pass that did not come."""
        if self.engine is not None and self.stage == 3:
            self.engine.optimizer.parameter_offload.partition_all_parameters()

    def load_whole(self, module: Any, weights: Mapping[str, Tensor]) -> None:
        """See the base class; the optimiser does not follow, so nothing is trained afterwards."""
        if self.stage == 2:
            module.load_state_dict(weights)
            return
        import deepspeed

        self._settle()
        parameters = dict(module.named_parameters(remove_duplicate=False))
        for name, value in weights.items():
            if name not in parameters:
                module.get_buffer(name).copy_(value)
                continue
            with deepspeed.zero.GatheredParameters([parameters[name]], modifier_rank=0):
                parameters[name].data.copy_(value)

    def whole_network(self, model: Any) -> PreTrainedModel:
        """See the base class."""
        network: PreTrainedModel = model.network
        if self.stage == 2:
            return network
        self._settle()
        made = without_weights(self._empty[network])
        gathered = {id(one): self._gathered(one) for one in network.parameters()}
        named = network.named_parameters(remove_duplicate=False)
        weights = network.state_dict() | {name: gathered[id(one)] for name, one in named}
        made.load_state_dict(weights, assign=True)
        disable_alike(made, network)
        return made

    def _gathered(self, parameter: nn.Parameter) -> Tensor:
        if self.stage == 2:
            return parameter.detach()
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().clone()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Each rank reads the file where it lies, not into memory of its own."""
        if is_sharded(Path(checkpoint_path)):
            return super().load_checkpoint(checkpoint_path, weights_only)
        checkpoint: dict[str, Any] = torch.load(
            checkpoint_path, map_location="cpu", mmap=True, weights_only=weights_only
        )
        return checkpoint

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """What a checkpoint holds of the optimiser. All ranks must ask."""
        return self._shares().whole()

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give each rank its share of what a checkpoint holds of the optimiser."""
        (saved,) = checkpoint["optimizer_states"]
        self._shares().load(saved)

    def _shares(self) -> OptimizerShares:
        return OptimizerShares(self.engine.optimizer, self.stage, self._groups)
