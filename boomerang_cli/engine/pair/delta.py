"""A weight delta: what distilling made of a student, to be given to the student of another teacher (arXiv 2608.22854).

The other teacher is a post-trained variant of the one that the student was distilled from, its base.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint, open_checkpoint
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.family_of import family_of
from boomerang_cli.engine.checkpoint.layer_kinds import layer_kinds
from boomerang_cli.engine.checkpoint.parts import Parts, difference
from boomerang_cli.engine.errors import ModelNotFoundError, PairError, SelectionError
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.origin import Named, told
from boomerang_cli.engine.pair.pair import Pair, check_pair, known_teacher, read_recorded
from boomerang_cli.engine.pair.student_config import (
    STUDENT_CONFIG_FILE,
    StudentConfig,
    WeightDelta,
    is_student,
    record_of,
)


@dataclass(frozen=True)
class Delta:
    """A distilled student beside its base, and how much of their difference is added.

    Attributes:
        pair: the student, and the base as its teacher.
    """

    pair: Pair
    scale: float

    @property
    def layer_map(self) -> LayerMap:
        return self.pair.layer_map

    @property
    def other_base(self) -> str | None:
        """What is to be said of a base that is not the teacher which the student records, a moved one perhaps."""
        recorded, base = self.pair.student_config.teacher, self.pair.teacher.name
        if recorded in (None, base):
            return None
        return (
            f"warning: {self.pair.student.name} records that it was distilled from {recorded}: the delta is wrong "
            f"unless {base} is that model"
        )

    def recorded(self) -> WeightDelta:
        """Return what a student that is made with it records."""
        student, base = self.pair.student, self.pair.teacher
        return WeightDelta(student.name, student.revision, base.name, base.revision, self.scale)


def check_scale(scale: float) -> None:
    """Refuse what is no number to multiply with.

    Raises:
        SelectionError: it is infinite, not a number, or beyond float32.
    """
    if not math.isfinite(scale) or abs(scale) > 1e38:
        raise SelectionError(
            f"--delta-scale {scale} is no number to multiply a delta with: give 1.0, or 0.5", usage=True
        )


def open_delta(
    student: str | Path,
    base: str | Path | None,
    teacher: Checkpoint,
    parts: Parts,
    *,
    scale: float,
    download: bool,
) -> Delta:
    """Open a student and its base, and check from headers that their difference fits a teacher.

    Args:
        base: else what the student records, else the table of published students.
        teacher, parts: the other one, whose student is given the delta.

    Raises:
        HubError: the Hub refuses or fails.
        ModelNotFoundError: one of them is not found, or no base is known.
        CheckpointError, UnsupportedModelError: one of them cannot be used.
        PairError: student, base and teacher do not belong together; names the first tensor that differs.
    """
    checkpoint = open_checkpoint(student, download=download)
    recorded = _recorded(checkpoint, "--delta")
    named = _find_base(base, checkpoint, recorded)
    with told(named.origin):
        base_checkpoint = open_checkpoint(named.model, download=download)
        pair = Pair(checkpoint, base_checkpoint, family_of(base_checkpoint), recorded)
        check_pair(pair)
        _check_head(pair)
        _check_fits(pair, teacher, parts)
    if not pair.layer_map.patchable:
        raise PairError(f"--delta {checkpoint.name} has all layers of its base: give a student that has fewer")
    return Delta(pair, scale)


def open_compared(student: str | Path, delta: Delta, teacher: Checkpoint, family: Family, *, download: bool) -> Parts:
    """Open a student that was distilled from the very teacher, to compare its own delta with another.

    Raises:
        HubError, ModelNotFoundError, CheckpointError, UnsupportedModelError: as in :func:`open_delta`.
        PairError: it was not made from this teacher, or keeps other layers than the delta's student.
    """
    checkpoint = open_checkpoint(student, download=download)
    recorded = _recorded(checkpoint, "--compare")
    base = delta.pair.teacher.name
    if recorded.teacher == base != teacher.name:
        raise PairError(
            f"--compare {checkpoint.name} was distilled from {base}, not from {teacher.name}: give one of the latter"
        )
    if recorded.layer_map != delta.layer_map:
        raise PairError(
            f"--compare {checkpoint.name} keeps the layers {_kept(recorded.layer_map)}, and --delta "
            f"{delta.pair.student.name} keeps {_kept(delta.layer_map)}: deltas of the same layers can be compared"
        )
    pair = Pair(checkpoint, teacher, family, recorded)
    check_pair(pair)
    return pair.parts["student"]


def _recorded(student: Checkpoint, flag: str) -> StudentConfig:
    if not is_student(student.folder):
        raise PairError(
            f"{flag} {student.name} is no student: it has no {STUDENT_CONFIG_FILE}, which says which layers it kept"
        )
    return read_recorded(student)


def _find_base(base: str | Path | None, student: Checkpoint, recorded: StudentConfig) -> Named:
    if base:
        return Named(base)
    if known := known_teacher(student, recorded, "--base"):
        return known
    raise ModelNotFoundError(
        f"no base: {student.name} records no teacher in {record_of(student.folder)}, and it is not one of the "
        "published students; give with --base the teacher that it was distilled from"
    )


def _check_head(pair: Pair) -> None:
    """Compare what follows the layers also where one of the two is tied; of a tied model the head is its embedding."""
    ours, theirs = (pair.parts[owner].untied(pair.family).after for owner in ("student", "teacher"))
    if problem := difference(ours, theirs):
        raise PairError(f"{pair.student.name} and {pair.teacher.name} do not belong together: {problem}")


def _check_fits(pair: Pair, teacher: Checkpoint, parts: Parts) -> None:
    """Raise PairError where a teacher differs from the base in what a delta needs alike."""
    base, family = pair.teacher, pair.family
    unfit = f"the delta of {pair.student.name} does not fit {teacher.name}"
    types = teacher.config.get("model_type"), base.config.get("model_type")
    if types[0] != types[1]:
        raise PairError(f"{unfit}: model_type {types[0]}, and {types[1]} of its base {base.name}")
    depth = family.teacher_depth(teacher.config)
    if depth != pair.layer_map.teacher_layers:
        raise PairError(
            f"{unfit}: the teacher has {depth} layers, and it keeps {_kept(pair.layer_map)} "
            f"of the {pair.layer_map.teacher_layers} of its base {base.name}"
        )
    if problem := _differing_tensor(parts, pair.parts["teacher"], family):
        raise PairError(f"{unfit}: {problem} as in its base {base.name}{_resized(teacher, base)}")
    check_pair(replace(pair, teacher=teacher))
    kinds = (layer_kinds(each.config, family, each.name) for each in (teacher, base))
    for layer, (kind, expected) in enumerate(zip(*kinds, strict=True)):
        if kind != expected:
            raise PairError(f"{unfit}: layer {layer} is of the kind {kind!r}, and {expected!r} in its base {base.name}")


def _differing_tensor(teacher: Parts, base: Parts, family: Family) -> str | None:
    """Say which tensor differs in name or shape, or None; of a tied model the head is its embedding."""
    theirs, expected = teacher.untied(family), base.untied(family)
    around = difference(theirs.before, expected.before) or difference(theirs.after, expected.after)
    if around:
        return around
    for index, (layer, like) in enumerate(zip(theirs.layers, expected.layers, strict=True)):
        if problem := difference(layer, like):
            return f"layer {index}: {problem}"
    return None


def _resized(teacher: Checkpoint, base: Checkpoint) -> str:
    sizes = teacher.config.get("vocab_size"), base.config.get("vocab_size")
    if sizes[0] == sizes[1]:
        return ""
    return (
        f" (the vocabulary was resized, {sizes[0]} tokens against {sizes[1]}, and a delta has no rows for what was "
        "added: give a teacher with the base's vocabulary)"
    )


def _kept(layer_map: LayerMap) -> str:
    return ",".join(map(str, layer_map.kept))
