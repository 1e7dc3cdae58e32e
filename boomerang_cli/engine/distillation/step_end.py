"""What follows a step: an evaluation, a checkpoint, the end; the same in all processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch.distributed as distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from boomerang_cli.engine.distillation.evaluation_steps import EvaluationSteps
from boomerang_cli.engine.distillation.interrupts import Interrupts
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.processes.group import agree_on_largest, rank

SAVE_SECONDS = 600.0
"""Without ``save_every`` a checkpoint is written this often: what a killed run costs."""


class StepEnd(TrainerCallback):
    """Decides after each step whether to log, to evaluate, to save, and to stop.

    Args:
        save_every: steps between checkpoints; None is every ten minutes.
        evaluations: after which steps; None without text for it.
        group: for the processes to agree in.
        on_begin, on_step: called before the first step, and after each, where losses are logged behind that.

    Attributes:
        interrupted: whether an interrupt ended the training before its last step.
    """

    def __init__(
        self,
        recipe: Recipe,
        interrupts: Interrupts,
        *,
        save_every: int | None,
        evaluations: EvaluationSteps | None,
        group: distributed.ProcessGroup | None,
        on_begin: Callable[[], None],
        on_step: Callable[[], None],
    ) -> None:
        self.interrupted = False
        self._recipe = recipe
        self._interrupts = interrupts
        self._save_every = save_every
        self._evaluations = evaluations
        self._group = group
        self._on_begin = on_begin
        self._on_step = on_step
        self._last_save = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._on_begin()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        step, steps = state.global_step, self._recipe.total_steps
        wish = agree_on_largest(2 if self._interrupts.requested else int(self._is_due(step)), self._group)
        save = wish > 0 or step == steps
        evaluate = self._evaluations is not None and self._evaluations.are_due(step)
        control.should_evaluate |= evaluate
        control.should_save |= save
        control.should_log |= save or evaluate or step in self._recipe.ends
        if wish == 2:
            control.should_training_stop = True
            self.interrupted = step < steps
        if not control.should_log:
            self._on_step()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._on_step()

    def _is_due(self, step: int) -> bool:
        if self._save_every is not None:
            return step % self._save_every == 0
        return rank() == 0 and time.monotonic() - self._last_save > SAVE_SECONDS

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._last_save = time.monotonic()
