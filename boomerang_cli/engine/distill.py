"""``distill``: train a student towards its teacher, and write it as a student folder."""

from __future__ import annotations

import resource
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from boomerang_cli.engine.checkpoint.files import check_utf8
from boomerang_cli.engine.distillation import sharding, training_folder, training_state
from boomerang_cli.engine.distillation.arguments import check_reporter, training_arguments
from boomerang_cli.engine.distillation.data import find_sources
from boomerang_cli.engine.distillation.failing_together import failing_together
from boomerang_cli.engine.distillation.identity import check_same_contents, contents_of
from boomerang_cli.engine.distillation.interrupts import Interrupts, TrainingInterrupted
from boomerang_cli.engine.distillation.models import load_student, load_teacher
from boomerang_cli.engine.distillation.progress import ProgressCallback
from boomerang_cli.engine.distillation.recipe import DEFAULT_DATA, Recipe
from boomerang_cli.engine.distillation.student import plan_student, student_documents, write_student
from boomerang_cli.engine.distillation.text import check_sequence_length, open_text
from boomerang_cli.engine.distillation.trainer import DistillationTrainer
from boomerang_cli.engine.distillation.training_folder import TrainingFolder
from boomerang_cli.engine.errors import ModelNotFoundError, OutputError, TrainingError
from boomerang_cli.engine.models.model_class import check_pair
from boomerang_cli.engine.output.output_folder import check_output, check_spares, check_writable
from boomerang_cli.engine.output.plan import Plan
from boomerang_cli.engine.output.system_calls import sync_name, sync_tree
from boomerang_cli.engine.pair.pair import Pair, open_pair
from boomerang_cli.engine.publishing import provenance
from boomerang_cli.engine.publishing.versions import versions
from boomerang_cli.engine.quiet import keep_libraries_quiet


@dataclass(frozen=True)
class DistillResult:
    """What training reached; of a dry run, what it would take.

    Attributes:
        path: the student folder.
        tokens: that the student was trained on.
        losses: ``total cross_entropy kl cosine``, means over the steps that were logged last.
        eval: ``loss perplexity`` of the student on the evaluation text; empty without one.
        seconds: of training, all parts of a resumed run together.
        peak_memory_bytes: of this process: the GPU's memory, or resident memory without a GPU.
    """

    path: Path
    steps: int
    tokens: int
    losses: Mapping[str, float]
    eval: Mapping[str, float]
    seconds: float
    tokens_per_second: float
    peak_memory_bytes: int
    plan: Plan


def distill(
    student_init: str | Path = "student-init",
    *,
    output: str | Path = "student",
    teacher: str | Path | None = None,
    keep: Sequence[int] | None = None,
    data: Sequence[str] = DEFAULT_DATA,
    eval_data: Sequence[str] = (),
    steps: int = Recipe.steps,
    batch_size: int = Recipe.batch_size,
    sequence_length: int = Recipe.sequence_length,
    learning_rate: float = Recipe.learning_rate,
    warmup_ratio: float = Recipe.warmup_ratio,
    weight_decay: float = Recipe.weight_decay,
    max_grad_norm: float = Recipe.max_grad_norm,
    kl_weight: float = Recipe.kl_weight,
    cosine_weight: float = Recipe.cosine_weight,
    temperature: float = Recipe.temperature,
    cross_entropy: bool = True,
    kl: bool = True,
    cosine: bool = True,
    seed: int = Recipe.seed,
    repeat: bool = False,
    micro_batch_size: int | Literal["auto"] = "auto",
    save_every: int | None = None,
    resume: bool = False,
    report_to: str = "none",
    dtype: str = "auto",
    overwrite: bool = False,
    dry_run: bool = False,
    on_progress: ProgressCallback | None = None,
    on_note: Callable[[str], None] = lambda note: None,
) -> DistillResult:
    """Distil ``student_init`` from its teacher, and write the student to ``output``.

    Checkpoints stand in ``<output>.training`` until the student is written. In a process that torchrun started, this
    is one part of the same training; rank 0 alone writes. A script for torchrun must call this under ``if __name__ ==
    "__main__":``, because the process that reads the text imports it.

    Args:
        teacher, keep: see ``pair.open_pair``.
        data, eval_data: see ``data.find_sources``.
        steps ... repeat: see :class:`Recipe`.
        micro_batch_size: sequences that run at once in each process; ``auto`` measures how many fit.
        save_every: steps between checkpoints; None is every ten minutes.
        resume: go on from the newest checkpoint, with the same recipe.
        dtype: of the written student; ``auto`` is that of ``student_init``.
        on_progress: called at rank 0 after each step.
        on_note: called with what is not as might be expected, such as files that are left out of a folder.

    Raises:
        TrainingError: a recipe that cannot be trained, a checkpoint that cannot be used, a loss that is no number.
        DataError: text that is missing, unreadable or too little.
        PairError: a student and a teacher that do not belong together.
        OutputError: the output, or a training that was begun, is there already.
        TrainingInterrupted: Ctrl-C, after the step was finished and saved.
    """
    recipe = Recipe(
        data=tuple(data),
        eval_data=tuple(eval_data),
        steps=steps,
        batch_size=batch_size,
        sequence_length=sequence_length,
        learning_rate=learning_rate,
        warmup_ratio=warmup_ratio,
        weight_decay=weight_decay,
        max_grad_norm=max_grad_norm,
        kl_weight=kl_weight,
        cosine_weight=cosine_weight,
        temperature=temperature,
        cross_entropy=cross_entropy,
        kl=kl,
        cosine=cosine,
        seed=seed,
        repeat=repeat,
    )
    target = Path(output)
    check_output(target, "student", overwrite=overwrite, dry_run=dry_run)
    check_reporter(report_to)
    check_save_every(save_every)
    sources = find_sources(recipe.data, recipe.eval_data)
    for note in sources.notes:
        on_note(note)
    pair = open_student_init(student_init, teacher, keep)
    check_utf8(target, pair.student.folder, pair.teacher.folder)
    check_sequence_length(pair.teacher, sequence_length)
    plan = plan_student(pair, dtype)
    check_pair(pair)
    folder = TrainingFolder.of(target)
    if overwrite and not resume:
        folder.check_replaceable()
    if dry_run:
        return DistillResult(target, recipe.steps, recipe.tokens, {}, {}, 0.0, 0.0, 0, plan)

    check_writable(target)
    check_spares(target, pair.student.folder, pair.teacher.folder)
    keep_libraries_quiet()
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")  # the libraries' own, about what a user of this command cannot change
        arguments = training_arguments(recipe, folder.path, report_to=report_to)  # connects the processes
        stack.enter_context(failing_together())
        sharding.decide(lambda: stack.enter_context(folder.held()))
        recipe.accumulation_steps(1 if micro_batch_size == "auto" else micro_batch_size, sharding.processes())
        identity = {
            "recipe": recipe.as_json(),
            "student_init": pair.student.name,
            "teacher": pair.teacher.name,
            "contents": sharding.decide(lambda: contents_of(pair, sources)),
        }
        start = sharding.decide(lambda: _starting_point(folder, identity, recipe, resume, overwrite))
        text = open_text(sources, recipe, pair, start.progress.get("position"))
        interrupts = Interrupts(on_request=lambda: trainer.report(stopping=True))
        trainer = DistillationTrainer(
            student=load_student(pair, arguments.device),
            teacher=load_teacher(pair, arguments.device),
            layer_map=pair.layer_map,
            recipe=recipe,
            arguments=arguments,
            train_dataset=text.train,
            evaluation_sequences=text.evaluation,
            folder=folder,
            interrupts=interrupts,
            identity=identity,
            save_every=save_every,
            on_progress=on_progress,
        )
        trainer.set_micro_batch_size(micro_batch_size)
        if start.checkpoint is None:
            sharding.decide(folder.clear)  # what --overwrite gives up, now that nothing can be refused any more
        with interrupts:
            trainer.go_on(start.checkpoint, start.progress)
        if trainer.interrupted:
            raise TrainingInterrupted(folder.of_step(trainer.state.global_step), trainer.state.global_step, steps)
        _publish(trainer, pair, plan, target, overwrite=overwrite)
    return DistillResult(
        path=target,
        steps=recipe.steps,
        tokens=recipe.tokens,
        losses=trainer.losses,
        eval=trainer.evaluation,
        seconds=trainer.clock.stopped_seconds,
        tokens_per_second=trainer.tokens_per_second,
        peak_memory_bytes=_peak_memory_bytes(),
        plan=plan,
    )


def open_student_init(student_init: str | Path, teacher: str | Path | None, keep: Sequence[int] | None) -> Pair:
    """Open the student that is to be distilled, and its teacher (errors as in ``pair.open_pair``)."""
    if str(student_init) == "student-init" and not Path(student_init).exists():
        raise ModelNotFoundError(
            "no student to distil in ./student-init: make one with `boomerang init-student TEACHER`, or name its folder"
        )
    return open_pair(student_init, teacher, keep=keep)


def check_save_every(steps: int | None) -> None:
    if steps is not None and steps < 1:
        raise TrainingError(f"--save-every {steps} must be 1 or more")


@dataclass(frozen=True)
class _Start:
    """Where training begins: at step 0, or at a checkpoint."""

    checkpoint: Path | None
    progress: dict[str, Any]


def _starting_point(
    folder: TrainingFolder, identity: Mapping[str, Any], recipe: Recipe, resume: bool, overwrite: bool
) -> _Start:
    """Look at what an earlier run left; nothing of it is touched yet.

    Raises:
        OutputError: there is a training that neither ``resume`` nor ``overwrite`` decides about.
        TrainingError: there is nothing to resume, or it was another training.
    """
    checkpoint = folder.newest()
    if resume:
        if checkpoint is None:
            raise TrainingError(f"nothing to resume: {folder.path} holds no complete checkpoint; leave out --resume")
        progress = training_folder.read_progress(checkpoint)
        recipe.check_same(progress.get("recipe", {}))
        check_same_contents(identity["contents"], progress.get("contents"))
        return _Start(checkpoint, progress)
    if checkpoint is not None and not overwrite:
        raise OutputError(
            f"{folder.path} holds a training that was begun: go on with --resume, or start anew with --overwrite"
        )
    return _Start(None, {})


def _publish(trainer: DistillationTrainer, pair: Pair, plan: Plan, target: Path, *, overwrite: bool) -> None:
    """Write the student at rank 0, and remove the checkpoints; all processes return, or raise, together.

    Raises:
        OutputError: the disk is full, or may not be written; the last checkpoint is kept.
        TrainingInterrupted: Ctrl-C; likewise.
    """
    steps, folder = trainer.recipe.steps, trainer.folder
    distillation = {
        **{key: value for key, value in trainer.identity.items() if key != "contents"},
        "student_init_revision": pair.student.revision,
        "tokens": trainer.recipe.tokens,
        "losses": trainer.losses,
        "evaluation": trainer.evaluation,
        "seconds": trainer.clock.stopped_seconds,
        "tokens_per_second": trainer.tokens_per_second,
        "micro_batch_size": trainer.args.per_device_train_batch_size,
        "processes": sharding.processes(),
        "device": _device_name(),
        "command": provenance.command(),
        "versions": versions(),
    }
    documents = student_documents(pair, distillation, trainer.state.log_history)
    tensors = training_state.gather_model(trainer.student)

    def write() -> None:
        try:
            scratch = folder.path / training_folder.WEIGHTS
            write_student(tensors, plan.with_documents(documents), target, scratch, overwrite=overwrite)
            sync_tree(target)
            sync_name(target)
        except (OutputError, OSError) as error:
            reason = f"{target} cannot be written: {error.strerror}" if isinstance(error, OSError) else error
            raise OutputError(f"{reason}; then go on with --resume, the training is kept in {folder.path}") from None
        folder.clear()  # not before the student would outlive a power cut

    try:
        sharding.decide(write)
    except KeyboardInterrupt:
        raise TrainingInterrupted(folder.of_step(steps), steps, steps) from None


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _peak_memory_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes if sys.platform == "darwin" else kibibytes * 1024  # macOS counts bytes
