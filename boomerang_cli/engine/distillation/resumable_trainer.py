"""transformers' Trainer that goes on from our own checkpoints, which are the same at any number of processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, Trainer

from boomerang_cli.engine.distillation.progress import Standing
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.training_folder import TrainingFolder
from boomerang_cli.engine.distillation.training_state import Saved, save_checkpoint
from boomerang_cli.engine.processes.group import as_told_by, group_for_questions, processes


class ResumableTrainer(Trainer):
    """Saves our checkpoints, and puts back what they hold where Trainer would write and read files of its own.

    Args:
        student: the model that is trained.
        folder: where checkpoints stand.
        identity: what they record of what the training is made of.

    Attributes:
        standing: what was reached so far.
        position: how the text goes on after the last sequence that was read; None before the first.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        recipe: Recipe,
        folder: TrainingFolder,
        identity: Mapping[str, Any],
        **options: Any,
    ) -> None:
        super().__init__(model=student, **options)
        self.student = student
        self.recipe = recipe
        self.folder = folder
        self.identity = dict(identity)
        self.standing = Standing(recipe)
        self.position: torch.Tensor | None = None
        self._control: distributed.ProcessGroup | None = group_for_questions()
        self._saved: Saved | None = None

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.standing.clock.stop(self.state.global_step)
        assert self.position is not None
        progress = {
            "step": self.state.global_step,
            "position": as_told_by(processes() - 1, self.position.tolist(), self._control),  # it has the last sequences
            **self.standing.as_json(),
            "log": self.state.log_history,
            **self.identity,
        }
        optimizer, schedule = self._plain_optimizer(), self._plain_schedule()
        save_checkpoint(self.folder, self.student, optimizer, schedule, self.state, progress, self._control)
        self.standing.clock.restart(self.state.global_step)

    def go_on(self, checkpoint: Path | None, progress: Mapping[str, Any]) -> None:
        """Train from the beginning, or from where ``checkpoint`` was saved, to the end.

        Args:
            progress: what ``read_progress`` found in the checkpoint, at rank 0's; empty without one.
        """
        if checkpoint is not None:
            self._saved = Saved.open(checkpoint)
            self._saved.restore_model(self.student)
            self.standing = Standing.from_json(self.recipe, progress)
            self.state.global_step, self.state.log_history = progress["step"], list(progress["log"])
            if progress["step"] >= self.recipe.total_steps:
                return  # only the student is still to be written
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

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
