"""How far a training is that has not ended: from its checkpoints, without the libraries that trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from boomerang_cli.engine.brief import Brief
from boomerang_cli.engine.distillation.training_folder import TrainingFolder, read_progress


@dataclass(frozen=True, repr=False)
class TrainingInfo(Brief):
    """A training that was begun.

    Attributes:
        output: the student that it will write.
        checkpoint: the newest complete one; None before the first.
        step, steps: that are saved, and in all; None before the first checkpoint.
        student_init, teacher: the models, as they were named; None like ``step``.
        losses, evaluation: as last measured; empty before.
        recipe: its values by name; empty before the first checkpoint.
    """

    brief = ("path", "checkpoint", "step", "steps", "student_init", "teacher", "losses")

    kind: Literal["training"]
    path: Path
    output: Path
    checkpoint: Path | None
    step: int | None
    steps: int | None
    student_init: str | None
    teacher: str | None
    losses: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    recipe: Mapping[str, Any]


def read_training_info(path: Path) -> TrainingInfo:
    """Read where a training stands.

    Raises:
        TrainingError: its newest checkpoint is damaged.
    """
    checkpoint = TrainingFolder(path).newest()
    progress = read_progress(checkpoint) if checkpoint else {}
    recipe, steps = _mapping(progress, "recipe"), None
    if checkpoint:
        steps = sum(_number(recipe, key) or 0 for key in ("steps", "sft_steps"))
    return TrainingInfo(
        kind="training",
        path=path,
        output=path.with_name(path.name.removesuffix(".training")),
        checkpoint=checkpoint,
        step=_number(progress, "step"),
        steps=steps,
        student_init=progress.get("student_init"),
        teacher=progress.get("teacher"),
        losses=_mapping(progress, "losses"),
        evaluation=_mapping(progress, "evaluation"),
        recipe=recipe,
    )


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _number(content: Mapping[str, Any], key: str) -> int | None:
    value = content.get(key)
    return value if isinstance(value, int) else None
