"""``distill``: train a student towards its teacher, and write it as a student folder."""

from __future__ import annotations

import resource
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from boomerang_cli.engine.distillation import sharding, training_folder
from boomerang_cli.engine.distillation.arguments import check_reporter, keep_libraries_quiet, training_arguments
from boomerang_cli.engine.distillation.interrupts import Interrupts, TrainingInterrupted
from boomerang_cli.engine.distillation.pair import load_student, load_teacher
from boomerang_cli.engine.distillation.recipe import DEFAULT_DATA, Recipe
from boomerang_cli.engine.distillation.trainer import DistillationTrainer, ProgressCallback
from boomerang_cli.engine.distillation.training_folder import TrainingFolder
from boomerang_cli.engine.errors import OutputError, TrainingError


@dataclass(frozen=True)
class DistillResult:
    """What training reached.

    Attributes:
        path: the student folder.
        losses: ``total cross_entropy kl cosine``, means over the steps that were logged last.
        eval: ``loss perplexity`` of the student on the evaluation text; empty without one.
        seconds: of training, all parts of a resumed run together.
        peak_memory_bytes: of this process: the GPU's memory, or resident memory without a GPU.
    """

    path: Path
    steps: int
    tokens: int
    losses: dict[str, float]
    eval: dict[str, float]
    seconds: float
    tokens_per_second: float
    peak_memory_bytes: int


def distill(
    student_init: str | Path = "student-init",
    *,
    output: str | Path = "student",
    teacher: str | None = None,
    data: Sequence[str] = DEFAULT_DATA,
    eval_data: Sequence[str] = (),
    steps: int = 500,
    batch_size: int = 2048,
    sequence_length: int = 2048,
    learning_rate: float = 3e-4,
    warmup_ratio: float = 0.01,
    weight_decay: float = 0.1,
    max_grad_norm: float = 1.0,
    kl_weight: float = 0.1,
    cosine_weight: float = 2.0,
    temperature: float = 1.0,
    cross_entropy: bool = True,
    kl: bool = True,
    cosine: bool = True,
    seed: int = 0,
    micro_batch_size: int | Literal["auto"] = "auto",
    save_every: int | None = None,
    resume: bool = False,
    repeat: bool = False,
    report_to: str = "none",
    dtype: str = "auto",
    overwrite: bool = False,
    on_progress: ProgressCallback | None = None,
) -> DistillResult:
    """Distil ``student_init`` from its teacher, and write the student to ``output``.

    Checkpoints stand in ``<output>.training`` until the student is written.

    Args:
        teacher: overrides the one that the student records.
        save_every: steps between checkpoints; None is every ten minutes.
        resume: go on from the newest checkpoint, with the same recipe.
        dtype: of the written student; ``auto`` is that of ``student_init``.
        on_progress: called at rank 0 after each step.

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
    check_reporter(report_to)
    keep_libraries_quiet()
    target, folder = Path(output), TrainingFolder.of(Path(output))
    pair = open_pair(student_init, teacher)
    identity = {"recipe": recipe.as_json(), "student_init": pair.student.name, "teacher": pair.teacher.name}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own, about what a user of this command cannot change
        arguments = training_arguments(recipe, folder.path, report_to=report_to)
        start = sharding.decide(lambda: _starting_point(target, folder, identity, recipe, resume, overwrite))
        text = open_text(recipe, pair, start.progress.get("position"))
        with Interrupts(on_request=lambda: trainer.report(stopping=True)) as interrupts:
            trainer = DistillationTrainer(
                student=load_student(pair.student.folder, arguments.device),
                teacher=load_teacher(pair.teacher.folder, arguments.device),
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
            trainer.go_on(start.checkpoint, start.progress)
        if trainer.interrupted:
            raise TrainingInterrupted(folder.of_step(trainer.state.global_step), trainer.state.global_step, recipe.steps)
        write_student(trainer, pair, target, dtype=dtype, overwrite=overwrite)
    folder.remove()
    return DistillResult(
        path=target,
        steps=recipe.steps,
        tokens=recipe.tokens,
        losses=trainer.losses,
        eval=trainer.evaluation,
        seconds=trainer.clock.stopped_seconds,
        tokens_per_second=trainer.tokens_per_second,
        peak_memory_bytes=_peak_memory_bytes(),
    )


@dataclass(frozen=True)
class _Start:
    """Where training begins: at step 0, or at a checkpoint."""

    checkpoint: Path | None
    progress: dict[str, Any]


def _starting_point(
    output: Path, folder: TrainingFolder, identity: Mapping[str, Any], recipe: Recipe, resume: bool, overwrite: bool
) -> _Start:
    """Look at what is on disk already, and clear what was not written to the end.

    Raises:
        OutputError: the output is there, or a training that neither ``resume`` nor ``overwrite`` decides about.
        TrainingError: there is nothing to resume, or it was another training.
    """
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists: give another --output, or --overwrite")
    checkpoint = folder.newest()
    if resume:
        if checkpoint is None:
            raise TrainingError(f"nothing to resume: {folder.path} holds no complete checkpoint; leave out --resume")
        progress = training_folder.read_progress(checkpoint)
        for role in ("student_init", "teacher"):
            if progress.get(role) != identity[role]:
                raise TrainingError(f"the run to resume had another {role}: {progress.get(role)}, now {identity[role]}")
        recipe.check_same(progress.get("recipe", {}))
        return _Start(checkpoint, progress)
    if checkpoint is not None and not overwrite:
        raise OutputError(
            f"{folder.path} holds a training that was begun: go on with --resume, or start anew with --overwrite"
        )
    folder.remove()
    return _Start(None, {})


def _peak_memory_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes if sys.platform == "darwin" else kibibytes * 1024  # macOS counts bytes
