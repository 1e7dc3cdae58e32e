"""transformers' Trainer with the distillation losses: a step is the mean over its batch, however that is split."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as distributed
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, IterableDataset
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from boomerang_cli.engine.distillation import training_folder, training_state
from boomerang_cli.engine.distillation.interrupts import Interrupts
from boomerang_cli.engine.distillation.losses import distillation_loss
from boomerang_cli.engine.distillation.micro_batch import choose_micro_batch_size
from boomerang_cli.engine.distillation.progress import PARTS, Clock, ProgressCallback, TrainingProgress
from boomerang_cli.engine.distillation.reading_process import ReadingProcess
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.sharding import (
    agree_on_largest,
    decide,
    is_distributed,
    processes,
    rank,
    split_root,
    with_whole_root,
)
from boomerang_cli.engine.distillation.training_folder import TrainingFolder
from boomerang_cli.engine.errors import DataError, TrainingError
from boomerang_cli.engine.pair.layers import LayerMap

SAVE_SECONDS = 600.0
"""Without ``save_every`` a checkpoint is written this often: what a killed run costs."""


class DistillationTrainer(Trainer):
    """Trains ``student`` towards ``teacher``.

    Loading and sharding are done before: a sharded student is taken as it is.

    Args:
        student: float32; the model that is trained.
        teacher: frozen.
        train_dataset: yields ``{"input_ids": [sequence_length], "position": [...]}``, where ``position`` says how to
            go on after this sequence.
        evaluation_sequences: int64 ``[sequences, length]``, the same in every process, or None.
        save_every: steps between checkpoints; None is every ten minutes.
    """

    # compute_loss returns a micro-batch's mean, so Trainer divides it by the number of micro-batches; FSDP2 then
    # averages over processes. All micro-batches hold equally many tokens, so the mean of means is the batch's mean.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *,
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        layer_map: LayerMap,
        recipe: Recipe,
        arguments: TrainingArguments,
        train_dataset: IterableDataset[Any],
        evaluation_sequences: torch.Tensor | None,
        folder: TrainingFolder,
        interrupts: Interrupts,
        identity: Mapping[str, Any],
        save_every: int | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> None:
        super().__init__(model=student, args=arguments, train_dataset=train_dataset)
        self.remove_callback(PrinterCallback)
        self.add_callback(_StepEnd(self))
        self.student, self.teacher = student, teacher
        self.text = train_dataset
        self._reading_process = ReadingProcess()
        self._parts = {"cross_entropy": recipe.cross_entropy, "kl": recipe.kl, "cosine": recipe.cosine}
        self.layer_map = layer_map
        self.recipe = recipe
        self.evaluation_sequences = evaluation_sequences
        self.folder = folder
        self.interrupts = interrupts
        self.identity = dict(identity)
        self.save_every = save_every
        self.on_progress = on_progress
        self.interrupted = False
        self.losses: dict[str, float] = {}
        self.evaluation: dict[str, float] = {}
        self.clock = Clock()
        self.position: torch.Tensor | None = None
        self._tensors: dict[str, Any] = {}
        precision = torch.float32 if arguments.device.type == "mps" else torch.float64
        self._sums = torch.zeros(len(PARTS) + 1, dtype=precision, device=arguments.device)
        # Questions between processes go over gloo: NCCL would have to wait for all work on the device.
        self._control = distributed.new_group(backend="gloo") if is_distributed() else None
        self._last_save = time.monotonic()

    def set_micro_batch_size(self, size: int | Literal["auto"]) -> int:
        """Set how many sequences run at once in each process; ``auto`` measures how many fit.

        Raises:
            TrainingError: the batch cannot be split like that, or not even one sequence fits.
        """
        if size == "auto":
            trained = sum(_local(parameter).numel() for parameter in self.student.parameters())
            size = choose_micro_batch_size(self.recipe, self.args.device, self._loss_to_measure, trained)
            self.student.zero_grad(set_to_none=True)
        self.args.gradient_accumulation_steps = self.recipe.accumulation_steps(size, processes())
        self.args.per_device_train_batch_size = self._train_batch_size = size
        return size

    def _loss_to_measure(self, input_ids: torch.Tensor) -> torch.Tensor:
        self.student.zero_grad(set_to_none=True)
        total, _ = self._losses_of(input_ids, **self._parts)
        split_root(self.teacher)
        return total

    # Data

    def get_train_dataloader(self) -> DataLoader[Any]:
        workers = self.args.dataloader_num_workers
        loader = DataLoader(
            self.text,
            batch_size=self._train_batch_size,
            num_workers=workers,
            # A process forked while a thread of gloo's enters the interpreter can wait for ever (CPython before 3.12).
            multiprocessing_context="forkserver" if workers and is_distributed() else None,
            worker_init_fn=self._reading_process,
            pin_memory=self.args.dataloader_pin_memory,
            drop_last=True,
            generator=torch.Generator().manual_seed(self.recipe.seed),  # a loader draws a number; not from the run's
        )
        return self.accelerator.prepare(loader)  # type: ignore[no-any-return]

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """Return the micro-batches of one step; they are read before it, so an end of text is found in time.

        Raises:
            DataError: the text ends before the step does.
        """
        batches: list[Any] = []
        try:
            while len(batches) < num_batches:
                batches.append(next(epoch_iterator))
        except StopIteration:
            done = self.state.global_step
            raise DataError(
                f"the text ended after {done} of {self.recipe.steps} steps ({done * self.recipe.tokens_per_step:,} "
                f"tokens of {self.recipe.tokens:,}): give more text, --repeat, or --steps {done}"
            ) from None
        except DataError as error:  # a loading process wraps its message in a traceback
            raise DataError(str(error).strip().rpartition("DataError: ")[2]) from None
        return batches, None

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
        self.position = inputs["position"][-1]
        total, values = self._losses_of(inputs["input_ids"], **self._parts)
        self._sums += torch.cat([values, values.new_ones(1)]).to(self._sums)  # stays on the device until it is logged
        return total

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        split_root(self.teacher)
        return loss

    def _losses_of(self, input_ids: torch.Tensor, **parts: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss to differentiate, and ``[total, cross_entropy, kl, cosine]`` detached."""
        values: list[torch.Tensor] = []

        def forward() -> torch.Tensor:
            with self.accelerator.autocast():
                losses = distillation_loss(
                    self.student,
                    self.teacher,
                    self.layer_map,
                    input_ids,
                    kl_weight=self.recipe.kl_weight,
                    cosine_weight=self.recipe.cosine_weight,
                    temperature=self.recipe.temperature,
                    cross_entropy=parts["cross_entropy"],
                    kl=parts["kl"],
                    cosine=parts["cosine"],
                )
            values.extend(getattr(losses, part).detach().float() for part in PARTS)
            total: torch.Tensor = losses.total
            return total

        def forward_beside_teacher() -> torch.Tensor:
            totals: list[torch.Tensor] = []
            # Nothing is returned through the teacher, so that no backward hook of its is put on the student's loss.
            with_whole_root(self.teacher, lambda: totals.append(forward()))
            return totals[0]

        needs_teacher = parts["kl"] or parts["cosine"]
        total = with_whole_root(self.student, forward_beside_teacher if needs_teacher else forward)
        return total, torch.stack(values)

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
        sequences, size = self.evaluation_sequences, self.args.per_device_train_batch_size
        together = size * processes()
        sums = self._sums.new_zeros(2)
        for start in range(0, len(sequences), together):
            own = sequences[start : start + together][rank() :: processes()]
            # All processes must take part in each gathering of weights: one without text computes for nothing.
            batch = own if len(own) else sequences[:1]
            _, values = self._losses_of(batch.to(self.args.device), cross_entropy=True, kl=False, cosine=False)
            weight = float(len(own))
            sums += torch.stack([values[PARTS.index("cross_entropy")] * weight, values.new_tensor(weight)]).to(sums)
        split_root(self.student)
        split_root(self.teacher)
        loss_sum, count = self._sum_over_processes(sums).tolist()
        self.evaluation = {"loss": loss_sum / count, "perplexity": _perplexity(loss_sum / count)}
        metrics = {f"eval_{name}": value for name, value in self.evaluation.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.clock.restart(self.state.global_step)
        return metrics

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
        *sums, count = self._sum_over_processes(self._sums).tolist()  # the one wait for the device
        self._sums.zero_()
        self.clock.stop(self.state.global_step)
        self.losses = {part: value / count for part, value in zip(PARTS, sums, strict=True)}
        step = self.state.global_step
        if not all(map(math.isfinite, self.losses.values())) or not math.isfinite(logs.get("grad_norm", 0.0)):
            kept = self.folder.newest()
            way_out = f"the last good checkpoint is {kept}" if kept else "no checkpoint was saved before"
            shown = ", ".join(f"{part} {value:.4g}" for part, value in self.losses.items())
            raise TrainingError(
                f"the loss is not finite at step {step} ({shown}, gradient norm {logs.get('grad_norm', 0.0):.4g}): "
                f"lower --learning-rate; {way_out}"
            )
        return {
            "loss": self.losses["total"],
            **{part: self.losses[part] for part in PARTS[1:]},
            "learning_rate": logs["learning_rate"],
            "grad_norm": logs.get("grad_norm", 0.0),
            "tokens": step * self.recipe.tokens_per_step,
            "tokens_per_second": self.tokens_per_second,
        }

    @property
    def tokens_per_second(self) -> float:
        seconds = self.clock.seconds(self.state.global_step)
        return self.state.global_step * self.recipe.tokens_per_step / seconds if seconds else 0.0

    def report(self, *, stopping: bool = False) -> None:
        """Tell the progress callback, at rank 0, where training stands."""
        if self.on_progress is None or rank() != 0:
            return
        step, steps = self.state.global_step, self.recipe.steps
        seconds = self.clock.seconds(step)
        self.on_progress(
            TrainingProgress(
                step=step,
                steps=steps,
                tokens_per_step=self.recipe.tokens_per_step,
                micro_batch_size=self.args.per_device_train_batch_size,
                losses=self.losses,
                evaluation=self.evaluation,
                learning_rate=self._get_learning_rate() if self.lr_scheduler else 0.0,
                tokens_per_second=self.tokens_per_second,
                seconds_left=seconds / step * (steps - step) if step else None,
                stopping=stopping or self.interrupts.requested,
            )
        )

    def _sum_over_processes(self, values: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(values, reduction="sum") if is_distributed() else values

    # Checkpoints

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.clock.stop(self.state.global_step)
        tensors = training_state.gather_tensors(self.student, self._plain_optimizer())
        position = self._position_reached()
        tensors["scheduler"] = self.lr_scheduler.state_dict()  # type: ignore[union-attr]
        progress = {
            "step": self.state.global_step,
            "position": position,
            "training_seconds": self.clock.stopped_seconds,
            "losses": self.losses,
            "evaluation": self.evaluation,
            "log": self.state.log_history,
            **self.identity,
        }

        def write(folder: Path) -> None:
            torch.save(tensors, folder / training_folder.TENSORS)
            self.state.save_to_json(str(folder / training_folder.STATE))
            (folder / training_folder.PROGRESS).write_text(json.dumps(progress, indent=2), encoding="utf-8")

        # Rank 0 writes; on a full disk all processes stop, none waits for the one that failed.
        decide(lambda: self.folder.save(self.state.global_step, write), self._control)
        self._last_save = time.monotonic()
        self.clock.restart(self.state.global_step)

    def go_on(self, checkpoint: Path | None, progress: Mapping[str, Any]) -> None:
        """Train from the beginning, or from where ``checkpoint`` was saved, to the end.

        Args:
            progress: what ``read_progress`` found in the checkpoint, at rank 0's; empty without one.
        """
        if checkpoint is not None:
            self._tensors = training_state.load_tensors(checkpoint)
            training_state.restore_model(self.student, self._tensors)
            self.clock = Clock(progress["training_seconds"])
            self.losses, self.evaluation = dict(progress["losses"]), dict(progress["evaluation"])
            self.state.global_step, self.state.log_history = progress["step"], list(progress["log"])
            if progress["step"] >= self.recipe.steps:
                return  # only the student is still to be written
        try:
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        finally:
            self._reading_process.end()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        pass  # go_on() has done it

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        training_state.restore_optimizer(self.student, self._plain_optimizer(), self._tensors)
        schedule = [self._tensors.get("scheduler")]
        if is_distributed():
            distributed.broadcast_object_list(schedule, group=self._control)
        self.lr_scheduler.load_state_dict(schedule[0])  # type: ignore[union-attr, arg-type]

    def _load_rng_state(self, checkpoint: str | None) -> None:
        training_state.restore_random_state(self._tensors)
        self._tensors = {}

    def _plain_optimizer(self) -> torch.optim.Optimizer:
        return getattr(self.optimizer, "optimizer", self.optimizer)  # type: ignore[return-value]

    def _position_reached(self) -> list[int]:
        """Return the data position after the batch: the last process holds its last sequences."""
        assert self.position is not None
        reached = [self.position.tolist()]
        if is_distributed():
            distributed.broadcast_object_list(reached, src=processes() - 1, group=self._control)
        return list(reached[0])

    def wishes(self) -> tuple[bool, bool]:
        """Return whether to save and whether to stop after this step; all processes get the same answer."""
        step = self.state.global_step
        if self.save_every is not None:
            due = step % self.save_every == 0
        else:
            due = rank() == 0 and time.monotonic() - self._last_save > SAVE_SECONDS
        wish = agree_on_largest(2 if self.interrupts.requested else int(due), self._control)
        return wish > 0 or step == self.recipe.steps, wish == 2


class _StepEnd(TrainerCallback):
    """Decides after each step whether to log, to evaluate, to save, and to stop."""

    def __init__(self, trainer: DistillationTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 0:
            self._trainer.evaluate()  # the undistilled student
        self._trainer.clock.restart(state.global_step)
        self._trainer.report()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        save, stop = self._trainer.wishes()
        last = state.global_step == self._trainer.recipe.steps
        evaluate = self._trainer.evaluation_sequences is not None and (
            last or state.global_step % max(1, self._trainer.recipe.steps // 10) == 0
        )
        control.should_evaluate |= evaluate
        control.should_save |= save
        control.should_log |= save or evaluate
        if stop:
            control.should_training_stop = True
            self._trainer.interrupted = not last
        self._trainer.report()


def _local(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))  # above, a float64 overflows
