"""The training itself, from the first step or from a checkpoint, to the student that is written."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Literal

import torch

from boomerang_cli.engine.distillation.arguments import training_arguments
from boomerang_cli.engine.distillation.cpu_hours import check_hours
from boomerang_cli.engine.distillation.device import peak_memory_bytes
from boomerang_cli.engine.distillation.finish import write_trained_student
from boomerang_cli.engine.distillation.identity import contents_of
from boomerang_cli.engine.distillation.interrupts import Interrupts, TrainingInterrupted
from boomerang_cli.engine.distillation.models import load_student, load_teacher
from boomerang_cli.engine.distillation.parts import check_seen_by_all
from boomerang_cli.engine.distillation.progress import ProgressCallback
from boomerang_cli.engine.distillation.project import Project
from boomerang_cli.engine.distillation.result import DistillResult
from boomerang_cli.engine.distillation.start import find_start
from boomerang_cli.engine.distillation.text import open_text
from boomerang_cli.engine.distillation.trainer import DistillationTrainer
from boomerang_cli.engine.models.compose import LoadedPair
from boomerang_cli.engine.models.patched_student import PatchedStudents
from boomerang_cli.engine.output.output_folder import check_writable
from boomerang_cli.engine.processes.failing_together import failing_together
from boomerang_cli.engine.processes.group import decide, processes
from boomerang_cli.engine.quiet import keep_libraries_quiet
from boomerang_cli.engine.waiting import waiting


def train(
    project: Project,
    *,
    micro_batch_size: int | Literal["auto"],
    save_every: int | None,
    eval_every: int | None,
    resume: bool,
    report_to: str,
    yes: bool,
    overwrite: bool,
    on_progress: ProgressCallback | None,
    on_note: Callable[[str], None],
) -> DistillResult:
    """Train a student, and write it; arguments, result and errors are those of ``distill``."""
    pair, recipe, levers, folder = project.pair, project.recipe, project.levers, project.folder
    sources = project.sources
    levers.check_device(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    check_writable(project.target)
    keep_libraries_quiet()
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")  # the libraries' own, about what a user of this command cannot change
        arguments = training_arguments(recipe, folder.path, report_to=report_to, levers=levers)  # connects processes
        stack.enter_context(failing_together(folder.way_out, on_note))
        if not resume:  # who goes on knows how long it takes
            decide(lambda: check_hours(pair, recipe, levers, arguments.device, yes=yes, on_note=on_note))
        decide(lambda: stack.enter_context(folder.held()))
        check_seen_by_all(folder.path)
        for phase in recipe.phases:
            phase.accumulation_steps(1 if micro_batch_size == "auto" else micro_batch_size, processes())
        identity = {
            "recipe": recipe.as_json(),
            "student_init": pair.student.name,
            "teacher": pair.teacher.name,
            "levers": levers.as_json(),
            "contents": decide(lambda: contents_of(pair, sources)),
        }
        start = decide(lambda: find_start(folder, identity, recipe, levers, resume=resume, overwrite=overwrite))
        with waiting("reading text, and cutting it to tokens"):
            text = open_text(sources, recipe, pair, start.progress.get("step", 0), start.progress.get("position"))
        interrupts = Interrupts(on_request=lambda: trainer.report(stopping=True))
        with waiting(f"loading {pair.student.name} and {pair.teacher.name}"):
            trained = load_student(pair, arguments.device, offload=levers.offload)
            frozen = load_teacher(pair, arguments.device)
            levers.pull(trained, frozen, pair.layer_map)
        trainer = DistillationTrainer(
            student=trained,
            teacher=frozen,
            layer_map=pair.layer_map,
            recipe=recipe,
            arguments=arguments,
            texts=text.train,
            evaluation_sequences=text.evaluation,
            folder=folder,
            interrupts=interrupts,
            identity=identity,
            patched_steps=project.patched_steps,
            between=PatchedStudents(LoadedPair(pair, {"student": trained, "teacher": frozen})),
            save_every=save_every,
            eval_every=eval_every,
            on_progress=on_progress,
        )
        with waiting("compiling, and " * levers.compile + "measuring how many sequences fit at once"):
            trainer.set_micro_batch_size(micro_batch_size, optimizer_bytes=levers.optimizer_bytes)
        if start.checkpoint is None:
            decide(folder.clear)  # what --overwrite gives up, now that nothing can be refused any more
        with interrupts:
            trainer.go_on(start.checkpoint, start.progress)
        if trainer.interrupted:
            done = trainer.state.global_step
            raise TrainingInterrupted(folder.of_step(done), done, recipe.total_steps, interrupts.signal)
        write_trained_student(trainer, pair, project.plan, project.target, overwrite=overwrite)
    standing = trainer.standing
    if standing.note:
        on_note(standing.note)
    return DistillResult(
        path=project.target,
        steps=recipe.total_steps,
        tokens=standing.tokens,
        losses=standing.losses,
        eval=standing.evaluation,
        eval_before=standing.evaluation_before,
        eval_teacher=standing.teacher_evaluation,
        seconds=standing.clock.stopped_seconds,
        tokens_per_second=standing.tokens_per_second(trainer.state.global_step),
        peak_memory_bytes=peak_memory_bytes(),
        phases=standing.phase_records,
        recipe=recipe.as_json(),
        plan=project.plan,
    )
