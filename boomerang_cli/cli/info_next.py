"""What to do next with a model, a sweep or a training: commands that work for it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import NamedTuple

from boomerang_cli.engine.distillation.training_info import TrainingInfo
from boomerang_cli.engine.evaluation.sweep_info import SweepInfo
from boomerang_cli.engine.info import Info
from boomerang_cli.engine.publishing.model_info import ModelInfo


class NextStep(NamedTuple):
    why: str
    command: str


def next_steps(info: Info, named: str) -> tuple[NextStep, ...]:
    """Return what can be done, the nearest first.

    Args:
        named: the model, as the user named it.
    """
    steps = _of_model if isinstance(info, ModelInfo) else _of_sweep if isinstance(info, SweepInfo) else _of_training
    return tuple(NextStep(why, shlex.join(["boomerang", *words])) for why, words in steps(info, named))  # type: ignore[arg-type]


def _of_model(info: ModelInfo, named: str) -> Iterator[tuple[str, list[str]]]:
    between = [size.layers for size in info.sizes[1:-1]]
    if info.kind == "teacher" and between:
        yield "make a student of it", ["init-student", named]
    if info.kind == "student-init":
        yield "distil it", ["distill", named]
    if info.kind in ("student", "patched") and between and not info.notes:
        yield "make a size between it and its teacher", [
            "patch", "--student", named, "--layers", str(min(2, between[-1])),
        ]  # fmt: skip
        yield "score every size", ["sweep", "--student", named, "--data", "TEXT"]
    if info.kind == "patched" and info.copied_teacher_layers:
        yield "train it on", ["distill", named]
    if info.kind in ("student", "patched") and info.revision is None:
        yield "publish it", ["push", named, "OWNER/NAME"]


def _of_sweep(info: SweepInfo, named: str) -> Iterator[tuple[str, list[str]]]:
    if info.models:
        yield "publish its models", ["push", named, "OWNER/NAME"]


def _of_training(info: TrainingInfo, named: str) -> Iterator[tuple[str, list[str]]]:
    if info.checkpoint:
        yield "go on, with the options that it was begun with", ["distill", str(info.student_init), "--resume"]
