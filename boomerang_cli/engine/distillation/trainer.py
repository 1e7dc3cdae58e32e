"""transformers' Trainer with the distillation losses: a step is the mean over its batch, however that is split."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.data import IterableDataset
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from boomerang_cli.engine.distillation.batch_losses import BatchLosses
from boomerang_cli.engine.distillation.device import autocast
from boomerang_cli.engine.distillation.evaluation_steps import EvaluationSteps
from boomerang_cli.engine.distillation.held_out import score_held_out
from boomerang_cli.engine.distillation.interrupts import Interrupts
from boomerang_cli.engine.distillation.loss_record import LossSums, check_finite, training_record
from boomerang_cli.engine.distillation.micro_batch import choose_micro_batch_size
from boomerang_cli.engine.distillation.patched_steps import PatchedSteps
from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.distillation.progress import ProgressCallback
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.resumable_trainer import ResumableTrainer
from boomerang_cli.engine.distillation.sharding import own_parameters, split_root
from boomerang_cli.engine.distillation.step_end import StepEnd
from boomerang_cli.engine.distillation.steps import Step, StepReader
from boomerang_cli.engine.distillation.training_folder import TrainingFolder
from boomerang_cli.engine.models.patched_student import PatchedStudents
from boomerang_cli.engine.models.position_scaling import positions_depend_on_length
from boomerang_cli.engine.pair.layers import LayerMap, Owner
from boomerang_cli.engine.processes.group import is_distributed, rank


class DistillationTrainer(ResumableTrainer):
    """Trains ``student`` towards ``teacher``.

    Loading and sharding are done before: a sharded student is taken as it is. To Trainer a step is one batch: phases
    may split theirs into other numbers of micro-batches.

    Args:
        student: float32; the model that is trained.
        teacher: frozen.
        texts: of each phase of the recipe, what yields ``{"input_ids": [sequence_length], "position": [...]}``, where
            ``position`` says how to go on after this sequence; see ``ChatSequences`` where responses alone count.
        evaluation_sequences: int64 ``[sequences, length]``, the same in every process, or None.
        patched_steps: those that train the student as a part of a model in between; None is none.
        between: what gives these models.
        save_every: steps between checkpoints; None is every ten minutes.
        eval_every: steps between evaluations; None is ten times on the way.
    """

    # compute_loss returns a micro-batch's mean, so Trainer divides it by the number of micro-batches; FSDP2 then
    # averages over processes. All micro-batches hold equally many tokens, or divide by equally many where responses
    # alone count, so the mean of means is the batch's mean.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *,
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        layer_map: LayerMap,
        recipe: Recipe,
        arguments: TrainingArguments,
        texts: Sequence[IterableDataset[Any]],
        evaluation_sequences: torch.Tensor | None,
        folder: TrainingFolder,
        interrupts: Interrupts,
        identity: Mapping[str, Any],
        patched_steps: PatchedSteps | None = None,
        between: PatchedStudents | None = None,
        save_every: int | None = None,
        eval_every: int | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> None:
        super().__init__(student, recipe, folder, identity, args=arguments, train_dataset=texts[0])
        self.remove_callback(PrinterCallback)
        self.teacher = teacher
        self.evaluation_sequences = evaluation_sequences
        self.interrupts = interrupts
        self.on_progress = on_progress
        self._phase = recipe.phases[0]
        self._patched_steps = patched_steps
        self._patched: tuple[int, ...] = ()
        self._patched_count = 0
        compute = partial(autocast, arguments.device)
        self._batch_losses = BatchLosses(student, teacher, layer_map, recipe, compute, between)
        self._loss_sums = LossSums(recipe.parts, arguments.device)
        self._steps = StepReader(
            texts,
            recipe,
            arguments,
            self.accelerator.prepare,
            self._sum_over_processes,
            cuts_padding=not positions_depend_on_length(student),
        )
        self._evaluations = (
            EvaluationSteps(recipe.total_steps, eval_every) if evaluation_sequences is not None else None
        )
        self._step_end = StepEnd(
            recipe,
            interrupts,
            save_every=save_every,
            evaluations=self._evaluations,
            group=self._control,
            on_begin=self._begin,
            on_step=self.report,
        )
        self.add_callback(self._step_end)

    @property
    def interrupted(self) -> bool:
        """Tell whether an interrupt ended the training before its last step."""
        return self._step_end.interrupted

    @property
    def micro_batch_sizes(self) -> tuple[int, ...]:
        """Return how many sequences run at once in each process, in each phase."""
        return self._steps.micro_batch_sizes

    def set_micro_batch_size(self, size: int | Literal["auto"], *, optimizer_bytes: float = 8.0) -> None:
        """Set how many sequences run at once in each process; ``auto`` measures how many fit, in each phase.

        Args:
            optimizer_bytes: what the optimiser keeps of each parameter on the device.

        Raises:
            TrainingError: not even one sequence fits.
        """
        parameters = own_parameters(self.student)
        self._steps.micro_batch_sizes = tuple(
            choose_micro_batch_size(
                phase, self.args.device, partial(self._run_to_measure, phase), parameters, optimizer_bytes
            )
            if size == "auto"
            else size
            for phase in self.recipe.phases
        )
        self.args.per_device_train_batch_size = self._train_batch_size = min(self.micro_batch_sizes)

    def _run_to_measure(self, phase: Phase, input_ids: torch.Tensor) -> None:
        heaviest = self._patched_steps.heaviest if self._patched_steps else ()
        for patched in dict.fromkeys(((), heaviest)):  # the one has more gradients, the other more layers
            total, _ = self._batch_losses.of_phase(phase, input_ids, patched=patched)
            total.backward()  # type: ignore[no-untyped-call]
            split_root(self.teacher)  # only now: the gradient may have passed through its final norm
            self.student.zero_grad(set_to_none=True)

    # Data

    def get_train_dataloader(self) -> Any:
        return self._steps.micro_batches_after(self.state.global_step)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        step = self._steps.read(epoch_iterator, self.state.global_step)
        self.standing.count(step)
        return [step], None

    # Losses

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        # No dropout: the teacher's states are exact targets, and a mask would depend on how the batch is split.
        self.student.eval()  # type: ignore[no-untyped-call]
        counted: Any = inputs.get("counted")
        total, values = self._batch_losses.of_phase(self._phase, inputs["input_ids"], counted, self._patched)
        self._loss_sums.add(values)
        return total

    def training_step(
        self,
        model: nn.Module,
        inputs: Step,  # type: ignore[override]
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        self._phase, self.position = inputs.phase, inputs.position
        self._patched = self._patched_steps.blocks(self.state.global_step) if self._patched_steps else ()
        self._patched_count += bool(self._patched)
        self.current_gradient_accumulation_steps = len(inputs.micro_batches)
        losses = []
        for micro_batch in inputs.micro_batches:
            losses.append(super().training_step(model, dict(micro_batch)))
            split_root(self.teacher)
        return torch.stack(losses).sum()

    def floating_point_ops(self, inputs: dict[str, torch.Tensor | Any]) -> int:
        return 0  # Trainer would walk all parameters for each micro-batch, to count one of the two models

    @contextlib.contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        # Gradients are reduced after each micro-batch: put off to the last, they would stand whole in every process.
        yield

    # Evaluation

    @torch.no_grad()
    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return the cross entropy a token and the perplexity on the evaluation sequences (empty without them)."""
        if self.evaluation_sequences is None:
            self.control.should_evaluate = False
            return {}
        self.student.eval()  # type: ignore[no-untyped-call]
        self.standing.evaluation = self._score("student", self._batch_losses)
        metrics = {f"eval_{name}": value for name, value in self.standing.evaluation.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.standing.clock.restart(self.state.global_step)
        return metrics

    def _score(self, owner: Owner, losses: BatchLosses) -> dict[str, float]:
        """Return ``loss perplexity`` of one of the models on the evaluation sequences."""

        def tell(done: int, total: int) -> None:
            self.standing.evaluating = (owner, done, total)
            self.report()

        assert self.evaluation_sequences is not None
        started = time.monotonic()
        scores = score_held_out(
            self.evaluation_sequences,
            self.args.per_device_train_batch_size,
            self.args.device,
            losses.cross_entropy,
            self._sum_over_processes,
            tell,
        )
        self.standing.evaluating, self.standing.evaluation_seconds = None, time.monotonic() - started
        split_root(self.student)
        split_root(self.teacher)
        return scores

    # Logging

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the parts of the loss with Trainer's own values.

        Raises:
            TrainingError: the loss is no number.
        """
        if "loss" in logs:
            logs = self._training_record(logs)
        elif "eval_loss" not in logs:
            return  # Trainer's summary; the result has its own
        super().log(logs)

    def _training_record(self, logs: Mapping[str, float]) -> dict[str, float]:
        self.standing.losses = self._loss_sums.take_means(self._sum_over_processes)
        step, gradient_norm = self.state.global_step, logs.get("grad_norm", 0.0)
        self.standing.clock.stop(step)
        check_finite(self.standing.losses, gradient_norm, step, self.folder)
        record = training_record(self.standing, step, logs["learning_rate"], gradient_norm)
        if self.recipe.patched_share:  # losses of models in between are smaller: not to be taken for the student's
            record["patched_steps"], self._patched_count = self._patched_count, 0
        return record

    def report(self, *, stopping: bool = False) -> None:
        """Tell the progress callback, at rank 0, where training stands."""
        if self.on_progress is None or rank() != 0:
            return
        self.on_progress(
            self.standing.progress(
                self.state.global_step,
                micro_batch_sizes=self.micro_batch_sizes,
                learning_rate=self._get_learning_rate() if self.lr_scheduler else 0.0,
                stopping=stopping or self.interrupts.requested,
                evaluations=self._evaluations.after(self.state.global_step) if self._evaluations else 0,
            )
        )

    def _sum_over_processes(self, values: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(values, reduction="sum") if is_distributed() else values

    # Beginning and end

    def train(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().train(*args, **kwargs)
        finally:
            self._steps.end()

    def _begin(self) -> None:
        if self.state.global_step == 0 and self.evaluation_sequences is not None:
            with torch.no_grad():
                self.standing.teacher_evaluation = self._score("teacher", self._batch_losses.of_teacher)
            self.evaluate()  # the undistilled student
            self.standing.evaluation_before = self.standing.evaluation
        self.standing.clock.restart(self.state.global_step)
        self.report()
