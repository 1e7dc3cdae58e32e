"""What to do next with a model, a sweep or a training: commands that work for it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from boomerang_cli.cli.next_command import recommended_command, student_flag
from boomerang_cli.engine.distillation.training_info import TrainingInfo
from boomerang_cli.engine.errors import BoomerangError
from boomerang_cli.engine.evaluation.rows import SweepResult
from boomerang_cli.engine.evaluation.sweep_info import SweepInfo
from boomerang_cli.engine.info import Info
from boomerang_cli.engine.pair.student_config import read_student_config
from boomerang_cli.engine.publishing.model_info import ModelInfo


class NextStep(NamedTuple):
    why: str
    command: str


def next_steps(info: Info, named: str) -> tuple[NextStep, ...]:
    """Return what can be done, the nearest first.

    Args:
        named: the model, as the user named it.
    """
    if isinstance(info, ModelInfo):
        return tuple(_of_model(info, named))
    return tuple(_of_sweep(info, named) if isinstance(info, SweepInfo) else _of_training(info))


def _step(why: str, *words: str) -> NextStep:
    return NextStep(why, shlex.join(["boomerang", *words]))


def _of_model(info: ModelInfo, named: str) -> Iterator[NextStep]:
    inner = info.sizes[1:-1]
    between = [size.layers for size in inner if size.parameters is not None]
    if info.kind == "teacher" and between:
        yield _step("make a student of it", "init-student", named)
    if info.kind == "student-init":
        yield _step("distil it", "distill", *([] if Path(named) == Path("student-init") else [named]))
    if info.kind in ("student", "patched") and between:
        which = student_flag(named)
        yield _step("make a size between it and its teacher", "patch", "--layers", str(min(2, between[-1])), *which)
        if not info.scored_on:
            yield _step("score every size", "sweep", "--data", "TEXT", *which)
    elif info.kind in ("student", "patched") and inner:  # of a teacher that nothing records
        layers = str(min(2, inner[-1].layers))
        yield _step("name its teacher", "patch", "--layers", layers, *student_flag(named), "--teacher", "TEACHER")
    if info.kind == "patched" and info.copied_teacher_layers and len(info.sizes) > 1:  # else it is the teacher
        yield _step("train it for a few steps", "distill", named, "--steps", "50")
    if info.kind in ("student", "patched") and info.revision is None:
        yield _step("publish it", "push", named, "OWNER/NAME")


def _of_sweep(info: SweepInfo, named: str) -> Iterator[NextStep]:
    if info.student:
        result = SweepResult(
            Path(named), info.teacher or "", info.student, info.data, info.rows, recommended=info.recommended
        )
        is_gone = Path(info.student).is_absolute() and not Path(info.student).exists()  # the project was moved
        student = None if is_gone or not student_flag(info.student) else info.student
        if found := recommended_command(result, student, _unrecorded_teacher(info), None):
            yield NextStep(why=found[1], command=found[0])
    if info.models:
        yield _step("publish its models", "push", named, "OWNER/NAME")


def _unrecorded_teacher(info: SweepInfo) -> str | None:
    """Return the teacher that a sweep was given because its student, a folder, records none."""
    try:
        recorded = read_student_config(Path(info.student or "")).teacher
    except BoomerangError:  # a student of the Hub, or one that is gone
        return None
    return info.teacher if recorded is None else None


def _of_training(info: TrainingInfo) -> Iterator[NextStep]:
    if info.checkpoint:
        start = [] if info.student_init is None else [info.student_init]
        output = [] if info.output == Path("student") and not start else ["--output", str(info.output)]
        yield _step("go on, with the options that it was begun with", "distill", *start, *output, "--resume")
