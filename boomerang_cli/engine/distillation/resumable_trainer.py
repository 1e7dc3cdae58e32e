"""transformers' Trainer that goes on from our own checkpoints, which are the same at any number of processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as distributed
from torch import nn
from transformers import PreTrainedModel, Trainer

from boomerang_cli.engine.distillation import training_state
from boomerang_cli.engine.distillation.processes import group_for_questions


class ResumableTrainer(Trainer):
    """Puts back optimiser, schedule and random state from tensors where Trainer would read files of its own.

    Args:
        student: the model that is trained.
    """

    def __init__(self, student: PreTrainedModel, **options: Any) -> None:
        super().__init__(model=student, **options)
        self.student = student
        self._control: distributed.ProcessGroup | None = group_for_questions()
        self._tensors: dict[str, Any] = {}

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        pass  # the model is restored before

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        training_state.restore_optimizer(self.student, self._plain_optimizer(), self._tensors)
        training_state.restore_schedule(self.lr_scheduler, self._tensors, self._control)  # type: ignore[arg-type]

    def _load_rng_state(self, checkpoint: str | None) -> None:
        training_state.restore_random_state(self._tensors)
        self._tensors = {}

    def _plain_optimizer(self) -> torch.optim.Optimizer:
        return getattr(self.optimizer, "optimizer", self.optimizer)  # type: ignore[return-value]
