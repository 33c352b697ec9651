"""Random numbers that are a function of the step."""

from typing import Any

import lightning as L
import numpy as np
import torch


class StepSeed(L.Callback):
    """Seeds PyTorch before every training step from the run's seed, the step and the rank.

    Dropout is then the same whether a run was interrupted or not, without saving the state of any
    generator, and whatever a validation in between has drawn.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed this step."""
        mixed = np.random.SeedSequence([self.seed, trainer.global_step, trainer.global_rank])
        torch.manual_seed(int(mixed.generate_state(1, np.uint64)[0] >> 1))
