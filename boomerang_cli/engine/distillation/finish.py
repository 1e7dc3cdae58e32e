"""The end of a training: its student is written, and its checkpoints go once that is sure to stay."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from boomerang_cli.engine.distillation.device import device_name
from boomerang_cli.engine.distillation.identity import datasets_of
from boomerang_cli.engine.distillation.interrupts import TrainingInterrupted
from boomerang_cli.engine.distillation.student import with_student_documents, write_student, write_weights
from boomerang_cli.engine.distillation.trainer import DistillationTrainer
from boomerang_cli.engine.distillation.training_folder import WEIGHTS
from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.output.plan import Plan
from boomerang_cli.engine.output.system_calls import sync_name, sync_tree
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.processes.group import decide, processes
from boomerang_cli.engine.publishing import provenance
from boomerang_cli.engine.publishing.versions import versions


def write_trained_student(
    trainer: DistillationTrainer, pair: Pair, plan: Plan, target: Path, *, overwrite: bool
) -> None:
    """Write the student at rank 0, and remove the checkpoints; all processes return, or raise, together.

    Raises:
        OutputError: the disk is full, or may not be written; the last checkpoint is kept.
        TrainingInterrupted: Ctrl-C; likewise.
    """
    steps, folder = trainer.recipe.total_steps, trainer.folder
    recorded = with_student_documents(plan, pair, _record_of(trainer, pair), trainer.state.log_history)
    scratch = folder.path / WEIGHTS

    def write() -> None:
        try:
            if failed:
                shutil.rmtree(scratch, ignore_errors=True)
                raise failed
            write_student(recorded, target, scratch, overwrite=overwrite)
            sync_tree(target)
            sync_name(target)
        except (OutputError, OSError) as error:
            reason = f"{target} cannot be written: {error.strerror}" if isinstance(error, OSError) else error
            raise OutputError(f"{reason}; then go on with --resume, the training is kept in {folder.path}") from None
        folder.clear()  # not before the student would outlive a power cut

    try:
        failed = write_weights(trainer.student, plan, scratch)
        decide(write)
    except KeyboardInterrupt:
        raise TrainingInterrupted(folder.of_step(steps), steps, steps) from None


def _record_of(trainer: DistillationTrainer, pair: Pair) -> dict[str, Any]:
    """Return what a student records of its training."""
    standing = trainer.standing
    return {
        **{key: value for key, value in trainer.identity.items() if key != "contents"},
        "student_init_revision": pair.student.revision,
        "datasets": datasets_of(trainer.identity["contents"]),
        "tokens": standing.tokens,
        "phases": standing.phase_records,
        "losses": standing.losses,
        "evaluation": standing.evaluation,
        "evaluation_before": standing.evaluation_before,
        "teacher_evaluation": standing.teacher_evaluation,
        "seconds": standing.clock.stopped_seconds,
        "tokens_per_second": standing.tokens_per_second(trainer.state.global_step),
        "micro_batch_sizes": list(trainer.micro_batch_sizes),
        "processes": processes(),
        "device": device_name(),
        "command": provenance.command(),
        "versions": versions(),
    }
