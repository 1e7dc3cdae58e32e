"""``student_config.json``: which teacher layers a student copied, and what else is known of its making.

The published students hold ``pruned_teacher_layers`` and ``copied_teacher_layers`` alone (FACTS.md 1); ours hold the
same two keys and more beside them, so that either side reads the other's students.

Ours hold the layers, the order and a teacher on the Hub in ``config.json`` as well, under ``boomerang``: what trains a
student on saves that file anew, with the keys that it does not know, and leaves ``student_config.json`` behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.checkpoint import BUILTIN_DEMO
from boomerang_cli.engine.checkpoint.hub_reading import is_repo_id
from boomerang_cli.engine.checkpoint.json_files import read_json
from boomerang_cli.engine.checkpoint.weights import CONFIG_FILE, STUDENT_PART
from boomerang_cli.engine.errors import CheckpointError, PairError, SelectionError
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
        trained_elsewhere: another tool may have trained it, which left no record.
    """

    layer_map: LayerMap
    teacher: str | None = None
    teacher_revision: str | None = None
    order: str | Sequence[int] | None = None
    distillation: Mapping[str, Any] = field(default_factory=dict)
    weight_delta: Mapping[str, Any] = field(default_factory=dict)
    trained_elsewhere: bool = False

    @property
    def is_undistilled(self) -> bool:
        """Tell whether it is known that no training made the student."""
        return not (self.distillation or self.weight_delta or self.is_of_other_tools)

    @property
    def is_of_other_tools(self) -> bool:
        """Tell whether nothing is known of a training: other tools' students do not even record a teacher."""
        return self.trained_elsewhere or (self.teacher is None and not (self.distillation or self.weight_delta))

    @property
    def is_teacher_for_all(self) -> bool:
        """Tell whether the teacher has the same name on any machine."""
        return self.teacher is not None and (is_repo_id(self.teacher) or self.teacher == BUILTIN_DEMO)

    def as_json(self) -> dict[str, Any]:
        optional = {
            "teacher": self.teacher,
            "teacher_revision": self.teacher_revision,
            "order": self.order,
            "distillation": dict(self.distillation) or None,
            "weight_delta": dict(self.weight_delta) or None,
            "trained_elsewhere": self.trained_elsewhere or None,
        }
        return {
            "pruned_teacher_layers": list(self.layer_map.pruned),
            "copied_teacher_layers": list(self.layer_map.kept),
            **{key: value for key, value in optional.items() if value is not None},
        }

    def in_config(self) -> dict[str, Any]:
        """Return the part of ``config.json``: what holds of the student however it is trained, and on any machine.

        A model of all of the teacher's layers has none: nothing is left to be patched.
        """
        if not self.layer_map.pruned:
            return {}
        lasting = StudentConfig(self.layer_map, order=self.order)
        if self.is_teacher_for_all:
            lasting = replace(lasting, teacher=self.teacher, teacher_revision=self.teacher_revision)
        return {STUDENT_PART: lasting.as_json()}


def is_student(folder: Path) -> bool:
    """Tell whether a folder holds a student that says which layers it copied."""
    return (folder / STUDENT_CONFIG_FILE).is_file() or _part_of_config(folder) is not None


def record_of(folder: Path) -> str:
    """Return the file of a student's folder that says which layers it copied."""
    return STUDENT_CONFIG_FILE if (folder / STUDENT_CONFIG_FILE).is_file() else CONFIG_FILE


def read_student_config(folder: Path) -> StudentConfig:
    """Read a student's ``student_config.json``; of one that has none, the part of its ``config.json``.

    Raises:
        CheckpointError: both are missing, or not a JSON object.
        PairError: its layers are no lists of whole numbers, or do not add up to a teacher, or are others in each file.
    """
    path, carried = folder / STUDENT_CONFIG_FILE, None
    if (part := _part_of_config(folder)) is not None:
        carried = replace(_parsed(part, f"{folder / CONFIG_FILE}, {STUDENT_PART}"), trained_elsewhere=True)
        if not path.is_file():
            return carried
    recorded = _parsed(read_json(path), path)
    if carried and carried.layer_map != recorded.layer_map:
        raise PairError(
            f"{path} names the layers {_told(recorded.layer_map)}, and `{STUDENT_PART}` in {CONFIG_FILE} "
            f"{_told(carried.layer_map)}: one of them is another model's, remove it"
        )
    return recorded


def _told(layer_map: LayerMap) -> str:
    return f"{','.join(map(str, layer_map.kept))} of {layer_map.teacher_layers}"


def _part_of_config(folder: Path) -> dict[str, Any] | None:
    """Return what ``config.json`` holds of a student, if anything; other tools may have other uses for the name."""
    try:
        part = read_json(folder / CONFIG_FILE).get(STUDENT_PART)
    except CheckpointError:
        return None
    return part if isinstance(part, dict) else None


def _parsed(content: Mapping[str, Any], place: Path | str) -> StudentConfig:
    kept, pruned = (_layers(content, key, place) for key in ("copied_teacher_layers", "pruned_teacher_layers"))
    if sorted({*kept, *pruned}) != list(range(len(kept) + len(pruned))):
        raise PairError(
            f"{place}: copied_teacher_layers {list(kept)} and pruned_teacher_layers {list(pruned)} "
            "do not make up all layers of a teacher, each once"
        )
    try:
        layer_map = LayerMap(len(kept) + len(pruned), kept)
    except SelectionError as error:
        raise PairError(f"{place}: {error}") from None
    distillation, weight_delta = content.get("distillation"), content.get("weight_delta")
    return StudentConfig(
        layer_map=layer_map,
        teacher=_text(content, "teacher", place),
        teacher_revision=_text(content, "teacher_revision", place),
        order=_order(content.get("order"), layer_map, place),
        distillation=distillation if isinstance(distillation, dict) else {},
        weight_delta=weight_delta if isinstance(weight_delta, dict) else {},
        trained_elsewhere=content.get("trained_elsewhere") is True,
    )


def is_whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)  # JSON's true is an int to isinstance


def _layers(content: Mapping[str, Any], key: str, place: Path | str) -> tuple[int, ...]:
    layers = content.get(key)
    if not is_whole_numbers(layers):
        raise PairError(f"{place}: {key} must be a list of layer numbers, not {_shown(layers)}")
    assert isinstance(layers, list)
    return tuple(layers)


def _text(content: Mapping[str, Any], key: str, place: Path | str) -> str | None:
    value = content.get(key)
    if value is not None and not isinstance(value, str):
        raise PairError(f"{place}: {key} must be text, not {_shown(value)}")
    return value


def _order(value: Any, layer_map: LayerMap, place: Path | str) -> str | tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, str) and not is_whole_numbers(value):
        raise PairError(f"{place}: order must be first, last or a list of blocks, not {_shown(value)}")
    try:
        layer_map.order(value)
    except SelectionError as error:
        raise PairError(f"{place}: {error}") from None
    return value if isinstance(value, str) else tuple(value)


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:80]
