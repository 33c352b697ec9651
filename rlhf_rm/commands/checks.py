"""What of a training's configuration is refused before anything is read or made."""

from collections.abc import Iterable
from importlib.util import find_spec

from hydra.utils import get_class, get_object, instantiate
from lightning.pytorch import strategies
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import DictConfig, OmegaConf

from rlhf_rm.callbacks.best import BestCheckpoint
from rlhf_rm.data.denoised import DenoisedDataModule, refuse_no_recipe
from rlhf_rm.data.ensemble import ONE_DEVICE
from rlhf_rm.data.relabel import Relabelling
from rlhf_rm.errors import UserError
from rlhf_rm.losses.swav import SwAVLoss
from rlhf_rm.methods.ensemble import EnsembleRewardModule
from rlhf_rm.methods.policy import PolicyModule
from rlhf_rm.methods.step import StepModule
from rlhf_rm.models.adapter import NoAdapter
from rlhf_rm.models.qlora import QLoRA
from rlhf_rm.strategies.deepspeed import DeepSpeedStrategy
from rlhf_rm.strategies.sharded import Sharded

SHARD = (strategies.DeepSpeedStrategy, strategies.FSDPStrategy, strategies.ModelParallelStrategy)
SHARD_BY_NAME = ("deepspeed", "fsdp")  # how Lightning's names of these begin
OF_METHODS = ("members", "meta", "ppo", "sampling")  # what some methods read, and others do not
PRECISIONS = ("32-true", "32", "bf16-mixed", "16-mixed")


def check_config(cfg: DictConfig) -> None:
    """Refuse a configuration of `train` that cannot be meant.

    Raises:
        UserError: see the functions below.
    """
    check_precision(cfg)
    check_steps(cfg)
    check_metric(cfg)
    check_best(cfg)
    check_groups(cfg)
    check_strategy(cfg)


def check_precision(cfg: DictConfig) -> None:
    """Refuse a precision in which Lightning would convert what a step is given, weights included.

    Raises:
        UserError: see above.
    """
    precision = cfg.trainer.get("precision")
    if precision is not None and str(precision) not in PRECISIONS:
        raise UserError(
            f"trainer.precision={precision} is not supported: use one of {', '.join(PRECISIONS)}; weights "
            "themselves are kept in bfloat16 by model.dtype=bfloat16."
        )


def check_steps(cfg: DictConfig) -> None:
    """Refuse settings of Lightning's for steps that are its own; a step here is several backward passes.

    Raises:
        UserError: see above.
    """
    accumulated, clip = (cfg.trainer.get(name) for name in ("accumulate_grad_batches", "gradient_clip_val"))
    if accumulated not in (None, 1):
        raise UserError(
            f"trainer.accumulate_grad_batches={accumulated} is not supported: a step is loader.batch_size "
            "examples on each rank, in as many passes as loader.micro_tokens leaves; raise the one, or lower "
            "the other."
        )
    if clip is not None:
        raise UserError(
            f"trainer.gradient_clip_val={clip} is not supported: use method.module.gradient_clip={clip}."
        )


def check_metric(cfg: DictConfig) -> None:
    """Refuse a metric that a sweep would look for in vain, before anything is trained.

    Raises:
        UserError: the method measures no such thing, or its split is left out.
    """
    if cfg.optimized_metric is None:
        return
    names = [f"{split}/{name}" for split in ("val", "test") for name in _method(cfg).measures]
    if cfg.optimized_metric not in names:
        raise UserError(
            f"optimized_metric={cfg.optimized_metric} is no metric of this method: use one of "
            f"{', '.join(names)}."
        )
    limit = f"limit_{cfg.optimized_metric.partition('/')[0]}_batches"
    if cfg.trainer.get(limit) == 0:
        raise UserError(
            f"optimized_metric={cfg.optimized_metric} is not measured with trainer.{limit}=0: let it be more."
        )


def check_best(cfg: DictConfig) -> None:
    """Refuse a callback that would look for a validation that is not made, or a metric that has none.

    Raises:
        UserError: see above.
    """
    method = _method(cfg)
    for name, one in (cfg.callbacks or {}).items():
        kind = get_class(one._target_) if OmegaConf.is_dict(one) and "_target_" in one else object
        if issubclass(kind, BestCheckpoint):
            setting, metric = "metric", str(one.metric)
        elif issubclass(kind, EarlyStopping) and str(one.monitor).startswith("val/"):
            setting, metric = "monitor", str(one.monitor)
        else:
            continue
        if cfg.trainer.get("limit_val_batches") == 0:
            raise UserError(
                f"callbacks.{name} looks at validations, and trainer.limit_val_batches=0 makes none: leave "
                "one of them out."
            )
        measured = (*method.measures, *method.validated)
        # Some have a word behind, such as val/accuracy_gold where gold is known.
        if not any(metric == f"val/{known}" or metric.startswith(f"val/{known}_") for known in measured):
            raise UserError(
                f"callbacks.{name}.{setting}={metric} is not measured in a validation of this method: use "
                f"one of {', '.join(f'val/{known}' for known in method.measures)}."
            )


def check_groups(cfg: DictConfig) -> None:
    """Refuse what the method would not read, and a method without what it reads.

    Raises:
        UserError: see above.
    """
    if "reproduction" in cfg:
        raise UserError("experiment=paper_synthetic is many trainings: use `rlhf-rm paper`.")
    contrasts = "contrastive" in cfg.method.module
    if contrasts and cfg.get("contrastive") is None:
        raise UserError(
            "method=contrastive needs to know how: add contrastive=simcse_pairs, simcse_difference, "
            "swav_pairs or swav_difference."
        )
    if not contrasts and cfg.get("contrastive") is not None:
        raise UserError(
            "contrastive=… is a loss that this method does not read: add method=contrastive, or "
            "method=meta_contrastive."
        )
    if cfg.meta.responses is not None and "ascent" not in cfg.method.module:
        raise UserError("meta.responses is not read by this method: add method=meta, or leave it out.")
    if cfg.get("denoise") is not None and "recipe" not in cfg.method.datamodule:
        raise UserError(
            "denoise=… changes the labels of preferences, which this method does not read: leave it out."
        )


def unread(cfg: DictConfig, asked: Iterable[str]) -> list[str]:
    """The settings that were typed for another method than this one, which reads none of their group.

    Args:
        cfg: the configuration, not resolved.
        asked: the keys that were typed.
    """
    read = OmegaConf.to_yaml(cfg.method, resolve=False)
    groups = [group for group in OF_METHODS if f"${{{group}" not in read]
    return [key for key in asked if key.split(".")[0] in groups]


def check_recipe(cfg: DictConfig) -> None:
    """Refuse a recipe that is missing, or without its strengths, before a base model is made for nothing.

    Raises:
        UserError: see above, or the file of strengths is damaged.
    """
    told = cfg.method.datamodule
    kind = get_object(told._target_)
    if isinstance(kind, type) and issubclass(kind, DenoisedDataModule):
        refuse_no_recipe(told.recipe)
    if told.get("recipe") is not None:
        Relabelling(told.strengths, instantiate(told.recipe))


def check_strategy(cfg: DictConfig) -> None:
    """Refuse a strategy that would not do what is meant, and what cannot lie in shards on several ranks.

    Raises:
        UserError: see above.
    """
    strategy = cfg.trainer.get("strategy")
    # A reduction over ranks, were it of one, waits for the gradients of all members at once.
    if issubclass(_method(cfg), EnsembleRewardModule) and strategy not in (None, "auto"):
        raise UserError(ONE_DEVICE)
    kind = get_class(strategy._target_) if OmegaConf.is_dict(strategy) else None
    if kind is not None and issubclass(kind, DeepSpeedStrategy):
        name = f"strategy=deepspeed_zero{strategy.stage}"
        check_deepspeed(cfg, name)
        check_shards(cfg, name, allowed=_method(cfg).zero)
        return
    if kind is not None and issubclass(kind, Sharded):
        check_shards(cfg, "strategy=fsdp", allowed=_method(cfg).shards)
        return
    by_others = issubclass(kind, SHARD) if kind is not None else str(strategy).startswith(SHARD_BY_NAME)
    if by_others:
        given = strategy if kind is None else kind.__name__
        raise UserError(
            f"trainer.strategy={given} is not supported: a step here is several backward passes, which it "
            "would not add up. Use strategy=fsdp, or with DeepSpeed strategy=deepspeed_zero2 or "
            "deepspeed_zero3."
        )


def check_shards(cfg: DictConfig, name: str, allowed: bool) -> None:
    """Refuse what cannot lie in shards.

    Args:
        cfg: the configuration.
        name: of the strategy, as one types it.
        allowed: whether the method runs under it.

    Raises:
        UserError: see above.
    """
    method = _method(cfg)
    if not allowed:
        raise UserError(
            f"{method.__name__} does not run under {name}: use strategy=ddp"
            f"{', or strategy=fsdp' if method.shards else ''}, and for large models adapter=lora or "
            "adapter=qlora."
        )
    adapter = get_class(cfg.adapter._target_)
    if issubclass(method, PolicyModule) and not issubclass(adapter, NoAdapter):
        raise UserError(
            f"a policy with adapters is its own reference, which {name} cannot shard: use strategy=ddp, or "
            "adapter=none."
        )
    if issubclass(adapter, QLoRA):
        raise UserError(
            f"adapter=qlora keeps weights in 4 bits, which {name} cannot shard: use strategy=ddp, or "
            "adapter=lora."
        )


def check_deepspeed(cfg: DictConfig, name: str) -> None:
    """Refuse what DeepSpeed is missing or would do in another way.

    Raises:
        UserError: see above.
    """
    if find_spec("deepspeed") is None:
        raise UserError(
            f"{name} needs DeepSpeed, which is not installed: pip install -c constraints.txt -e "
            "'.[deepspeed]', or use strategy=fsdp."
        )
    contrastive = cfg.get("contrastive")
    if contrastive is not None and issubclass(get_class(contrastive.loss._target_), SwAVLoss):
        raise UserError(
            f"SwAV gives its prototypes length 1 before each step, which {name}'s own copies of the weights "
            "would not follow: use strategy=ddp, strategy=fsdp, or a SimCSE loss."
        )
    if cfg.model.dtype != "float32":
        raise UserError(
            f"model.dtype={cfg.model.dtype} would be trained through copies in float32 by {name}: use "
            "float32, with trainer.precision=bf16-mixed."
        )
    if cfg.model.compile:
        raise UserError(f"model.compile=true does not go with {name}, which hooks into layers: use false.")
    if str(cfg.trainer.get("precision")) == "16-mixed":
        raise UserError(
            f"trainer.precision=16-mixed scales gradients, which {name} would do in its own way: use "
            "bf16-mixed."
        )


def _method(cfg: DictConfig) -> type[StepModule]:
    method: type[StepModule] = get_class(cfg.method.module._target_)
    return method
