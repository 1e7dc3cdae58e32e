"""``student_config.json``: which teacher layers a student copied, and what else is known of its making.

The published students hold ``pruned_teacher_layers`` and ``copied_teacher_layers`` alone (FACTS.md 1); ours hold the
same two keys and more beside them, so that either side reads the other's students.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.json_files import read_json
from boomerang_cli.engine.errors import PairError, SelectionError
from boomerang_cli.engine.pair.layers import LayerMap

STUDENT_CONFIG_FILE = "student_config.json"
SCORES_FILE = "sweep.json"
"""Beside it, where a student was published with them: the scores of its sizes, and their orders."""


@dataclass(frozen=True)
class WeightDelta:
    """What was added to a student that no training made: the scaled difference of another one and its base.

    Attributes:
        student, base: Hub ids or absolute paths, with their Hub commits.
    """

    student: str
    student_revision: str | None
    base: str
    base_revision: str | None
    scale: float

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class StudentConfig:
    """What a student folder records.

    Attributes:
        teacher: a Hub id or an absolute path; None in students of other tools.
        teacher_revision: the teacher's Hub commit.
        order: in which order blocks are best patched: ``first``, ``last``, or every patchable block once.
        distillation: recipe, losses, data and versions of the training; empty before it.
        weight_delta: what was added to the teacher's layers instead (see :class:`WeightDelta`); empty without one.
    """

    layer_map: LayerMap
    teacher: str | None = None
    teacher_revision: str | None = None
    order: str | Sequence[int] | None = None
    distillation: Mapping[str, Any] = field(default_factory=dict)
    weight_delta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_undistilled(self) -> bool:
        """Tell whether it is known that no training made the student: other tools' students record nothing of it."""
        return self.teacher is not None and not self.distillation and not self.weight_delta

    def as_json(self) -> dict[str, Any]:
        optional = {
            "teacher": self.teacher,
            "teacher_revision": self.teacher_revision,
            "order": self.order,
            "distillation": dict(self.distillation) or None,
            "weight_delta": dict(self.weight_delta) or None,
        }
        return {
            "pruned_teacher_layers": list(self.layer_map.pruned),
            "copied_teacher_layers": list(self.layer_map.kept),
            **{key: value for key, value in optional.items() if value is not None},
        }


def is_student(folder: Path) -> bool:
    """Tell whether a folder holds a student that says which layers it copied."""
    return (folder / STUDENT_CONFIG_FILE).is_file()


def read_student_config(folder: Path) -> StudentConfig:
    """Read a student's ``student_config.json``.

    Raises:
        CheckpointError: it is missing or not a JSON object.
        PairError: its layers are no lists of whole numbers, or do not add up to a teacher.
    """
    path = folder / STUDENT_CONFIG_FILE
    content = read_json(path)
    kept, pruned = (_layers(content, key, path) for key in ("copied_teacher_layers", "pruned_teacher_layers"))
    if sorted({*kept, *pruned}) != list(range(len(kept) + len(pruned))):
        raise PairError(
            f"{path}: copied_teacher_layers {list(kept)} and pruned_teacher_layers {list(pruned)} "
            "do not make up all layers of a teacher, each once"
        )
    try:
        layer_map = LayerMap(len(kept) + len(pruned), kept)
    except SelectionError as error:
        raise PairError(f"{path}: {error}") from None
    distillation, weight_delta = content.get("distillation"), content.get("weight_delta")
    return StudentConfig(
        layer_map=layer_map,
        teacher=_text(content, "teacher", path),
        teacher_revision=_text(content, "teacher_revision", path),
        order=_order(content.get("order"), layer_map, path),
        distillation=distillation if isinstance(distillation, dict) else {},
        weight_delta=weight_delta if isinstance(weight_delta, dict) else {},
    )


def is_whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)  # JSON's true is an int to isinstance


def _layers(content: Mapping[str, Any], key: str, path: Path) -> tuple[int, ...]:
    layers = content.get(key)
    if not is_whole_numbers(layers):
        raise PairError(f"{path}: {key} must be a list of layer numbers, not {_shown(layers)}")
    assert isinstance(layers, list)
    return tuple(layers)


def _text(content: Mapping[str, Any], key: str, path: Path) -> str | None:
    value = content.get(key)
    if value is not None and not isinstance(value, str):
        raise PairError(f"{path}: {key} must be text, not {_shown(value)}")
    return value


def _order(value: Any, layer_map: LayerMap, path: Path) -> str | tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, str) and not is_whole_numbers(value):
        raise PairError(f"{path}: order must be first, last or a list of blocks, not {_shown(value)}")
    try:
        layer_map.order(value)
    except SelectionError as error:
        raise PairError(f"{path}: {error}") from None
    return value if isinstance(value, str) else tuple(value)


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:80]
