"""transformers' Trainer that goes on from our own checkpoints, which are the same at any number of processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as distributed
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, Trainer

from boomerang_cli.engine.distillation.training_state import Saved
from boomerang_cli.engine.processes.group import group_for_questions


class ResumableTrainer(Trainer):
    """Puts back optimiser, schedule and random state from our checkpoint where Trainer would read its own files.

    Args:
        student: the model that is trained.
    """

    def __init__(self, student: PreTrainedModel, **options: Any) -> None:
        super().__init__(model=student, **options)
        self.student = student
        self._control: distributed.ProcessGroup | None = group_for_questions()
        self._saved: Saved | None = None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        pass  # the model is restored before

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self._saved is not None:
            self._saved.restore_optimizer(self.student, self._plain_optimizer())
            self._saved.restore_schedule(self._plain_schedule())

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if self._saved is not None:
            self._saved.restore_random_state()
        self._saved = None

    def _plain_optimizer(self) -> torch.optim.Optimizer:
        return getattr(self.optimizer, "optimizer", self.optimizer)  # type: ignore[return-value]

    def _plain_schedule(self) -> LRScheduler:
        return getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)  # type: ignore[return-value]
