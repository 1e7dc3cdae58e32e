"""A student and its teacher: how they are found, and whether they belong together."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint, open_checkpoint
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.family_of import family_of
from boomerang_cli.engine.checkpoint.family_table import known_family
from boomerang_cli.engine.checkpoint.layer_config import config_for_layers
from boomerang_cli.engine.checkpoint.parts import Parts, check_layers_alike, difference, take_apart
from boomerang_cli.engine.errors import ModelNotFoundError, PairError, SelectionError
from boomerang_cli.engine.pair.layers import LayerMap, Owner
from boomerang_cli.engine.pair.origin import Named, told
from boomerang_cli.engine.pair.published import published_student
from boomerang_cli.engine.pair.student_config import (
    STUDENT_CONFIG_FILE,
    StudentConfig,
    is_student,
    read_student_config,
    record_of,
)

# Values of config.json that must agree because layers of both models run in one; shapes are compared apart, and
# so are values that are lists: one a layer is as long as the model.
_SAME_VALUES = (
    "hidden_size",
    "n_embd",
    "vocab_size",
    "num_attention_heads",
    "n_head",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "hidden_act",
)


@dataclass(frozen=True)
class Pair:
    """A student, its teacher, and which of the teacher's layers the student's stand for."""

    student: Checkpoint
    teacher: Checkpoint
    family: Family
    student_config: StudentConfig

    @property
    def layer_map(self) -> LayerMap:
        return self.student_config.layer_map

    @cached_property
    def parts(self) -> Mapping[Owner, Parts]:
        return {"student": take_apart(self.student, self.family), "teacher": take_apart(self.teacher, self.family)}

    @property
    def vocabulary_size(self) -> int:
        """How many tokens both models know: the rows of their embeddings."""
        return self.parts["teacher"].before[self.family.embedding].shape[0]

    @property
    def warning(self) -> str | None:
        """What is to be said of sizes of this pair before they are made; None if nothing is."""
        if not self.student_config.is_undistilled:
            return None
        return (
            f"warning: {self.student.name} was never distilled, and sizes between it and its teacher are poor without: "
            f"`boomerang distill {self.student.name}` makes a student of it"
        )

    def checkpoint(self, owner: Owner) -> Checkpoint:
        return self.student if owner == "student" else self.teacher

    def config(self, owner: Owner) -> dict[str, Any]:
        """Return the configuration that one model of the pair is run with.

        The student's is made from the teacher's: students of older tools carry per-layer lists of the teacher's length.
        """
        config = self.teacher.config
        if owner == "student":
            config = config_for_layers(config, self.family, self.layer_map.kept, self.teacher.name)
        return {**config, "tie_word_embeddings": self.parts[owner].tied}


def open_pair(
    student: str | Path | None = None,
    teacher: str | Path | None = None,
    *,
    keep: Sequence[int] | None = None,
    download: bool = True,
) -> Pair:
    """Find and open a student and its teacher, and check from headers that they belong together.

    Args:
        student: else ``BOOMERANG_STUDENT``, else the current folder if it is a student, else ``./student``.
        teacher: else ``BOOMERANG_TEACHER``, else what the student records, else the table of published pairs.
        keep: the kept layers, for a student that does not record them.
        download: bring models of the Hub whole into the cache (see ``open_checkpoint``).

    Raises:
        HubError: the Hub refuses or fails.
        ModelNotFoundError: one of them is not found; says what was looked for, and which flag to give.
        CheckpointError, UnsupportedModelError: one of them cannot be used.
        PairError: they do not belong together.
    """
    named_student = find_student(student)
    with told(named_student.origin):
        student_checkpoint = open_checkpoint(named_student.model, download=download)
        recorded = _recorded(student_checkpoint, keep)
    named_teacher = find_teacher(teacher, student_checkpoint, recorded)
    with told(named_teacher.origin):
        teacher_checkpoint = open_checkpoint(named_teacher.model, download=download)
        family = family_of(teacher_checkpoint)
    if recorded is None:
        assert keep is not None
        try:
            recorded = StudentConfig(LayerMap(family.teacher_depth(teacher_checkpoint.config), tuple(keep)))
        except SelectionError as error:
            raise PairError(f"--keep: {error}") from None
    pair = Pair(student_checkpoint, teacher_checkpoint, family, recorded)
    with told(named_student.origin, named_teacher.origin):
        check_pair(pair)
    return pair


def find_student(student: str | Path | None) -> Named:
    """Return the student that a command means that is given ``student`` (see :func:`open_pair`)."""
    if student:
        return Named(student)
    if from_environment := os.environ.get("BOOMERANG_STUDENT"):
        return Named(from_environment, "BOOMERANG_STUDENT names the student, --student another")
    if is_student(Path()):
        return Named(Path(), "the student is the current folder, --student names another")
    if Path("student").is_dir():
        return Named(Path("student"), "the student is ./student, --student names another")
    undistilled = "; ./student-init is not distilled yet, --student student-init takes it as it is"
    raise ModelNotFoundError(
        "no student: BOOMERANG_STUDENT is not set, and neither this folder nor ./student is one; give --student"
        + (undistilled if is_student(Path("student-init")) else "")
    )


def read_recorded(student: Checkpoint) -> StudentConfig:
    """Read what a student records, with the order that its card tells where it is a published one.

    Raises:
        CheckpointError, PairError: its record cannot be used.
    """
    recorded = read_student_config(student.folder)
    published = published_student(student.name)
    return replace(recorded, order=published.order) if recorded.order is None and published else recorded


def _recorded(student: Checkpoint, keep: Sequence[int] | None) -> StudentConfig | None:
    if is_student(student.folder):
        recorded = read_recorded(student)
        if keep is not None and tuple(keep) != recorded.layer_map.kept:
            raise PairError(
                f"--keep {_listed(keep)} contradicts {record_of(student.folder)} of {student.name}, "
                f"which keeps {_listed(recorded.layer_map.kept)}: leave --keep out"
            )
        return recorded
    if keep is None:
        depth = family_of(student).teacher_depth(student.config)
        raise PairError(
            f"{student.name} has no {STUDENT_CONFIG_FILE}: say with --keep which teacher layers its {depth} layers "
            f"copied, such as --keep {_listed(range(0, 2 * depth, 2))}"
        )
    return None


def find_teacher(teacher: str | Path | None, student: Checkpoint, recorded: StudentConfig | None) -> Named:
    """Return the teacher that a command means that is given ``teacher`` (see :func:`open_pair`)."""
    if teacher:
        return Named(teacher)
    if from_environment := os.environ.get("BOOMERANG_TEACHER"):
        return Named(from_environment, "BOOMERANG_TEACHER names the teacher, --teacher another")
    if known := known_teacher(student, recorded, "--teacher"):
        return known
    raise ModelNotFoundError(
        f"no teacher: BOOMERANG_TEACHER is not set, {student.name} records none in {record_of(student.folder)}, "
        "and it is not one of the published students; give --teacher"
    )


def known_teacher(student: Checkpoint, recorded: StudentConfig | None, flag: str) -> Named | None:
    """Return the teacher that a student records, else the one that it was published with; None if neither is known.

    Args:
        flag: what names another.

    Raises:
        ModelNotFoundError: a student of the Hub records a folder.
    """
    if recorded is not None and recorded.teacher:
        if student.revision is not None and not recorded.is_teacher_for_all:  # nobody else's paths are followed
            raise ModelNotFoundError(
                f"{student.name} records a teacher on somebody's disk, {recorded.teacher!r}: give {flag}"
            )
        pinned = f"@{recorded.teacher_revision}" if recorded.teacher_revision else ""
        place = f"{record_of(student.folder)} of {student.name}"
        return Named(recorded.teacher + pinned, f"{place} records the teacher, {flag} names another")
    if published := published_student(student.name):
        return Named(published.teacher, f"{student.name} was published with this teacher, {flag} names another")
    return None


def check_pair(pair: Pair) -> None:
    """Check from headers that a student and its teacher belong together.

    Raises:
        PairError: names the first thing in which they differ and must agree.
        CheckpointError, UnsupportedModelError: one of them cannot be used.
    """
    together = f"{pair.student.name} and {pair.teacher.name} do not belong together"
    ours, theirs = pair.student.config, pair.teacher.config
    if ours.get("model_type") != theirs.get("model_type"):
        raise PairError(f"{together}: model_type {ours.get('model_type')} and {theirs.get('model_type')}")
    known_family(ours, pair.student.name)
    our_text, their_text = pair.family.text_config(ours), pair.family.text_config(theirs)
    for key in _SAME_VALUES:
        values: tuple[Any, Any] = (our_text.get(key), their_text.get(key))
        if not any(value is None or isinstance(value, list) for value in values) and values[0] != values[1]:
            raise PairError(f"{together}: {key} {values[0]} and {values[1]}")
    layer_map = pair.layer_map
    for checkpoint, counted in ((pair.teacher, layer_map.teacher_layers), (pair.student, layer_map.student_layers)):
        if (depth := pair.family.teacher_depth(checkpoint.config)) != counted:
            raise PairError(
                f"{together}: {checkpoint.name} has {depth} layers, "
                f"the kept layers {_listed(layer_map.kept)} speak of {counted}"
            )
    student, teacher = pair.parts["student"], pair.parts["teacher"]
    check_layers_alike(pair.teacher, pair.family, teacher)
    if problem := difference(student.before, teacher.before):
        raise PairError(f"{together}: {problem}")
    for index, kept in enumerate(layer_map.kept):
        if problem := difference(student.layers[index], teacher.layers[kept]):
            if _experts_apart(student.layers[index], teacher.layers[kept]):
                problem = "the experts of one stand one by one, the other's in one tensor: save both by transformers"
            raise PairError(f"{together}: student layer {index} is not like teacher layer {kept}: {problem}")
    if student.tied == teacher.tied and (problem := difference(student.after, teacher.after)):
        raise PairError(f"{together}: {problem}")


def _experts_apart(*layers: Collection[str]) -> bool:
    """Tell whether layers' experts are spelled in two ways, as transformers 5 can write them."""
    return len({any(".experts.0." in name for name in layer) for layer in layers if ".experts." in "".join(layer)}) > 1


def _listed(layers: Sequence[int]) -> str:
    return ",".join(map(str, layers))
