"""What a model is, what it is made of, and which sizes can be made with it: from headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from boomerang_cli.engine.brief import Brief
from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint, open_checkpoint
from boomerang_cli.engine.checkpoint.dtypes import CONFIG_NAMES
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.family_of import family_of
from boomerang_cli.engine.checkpoint.files import RemoteFile
from boomerang_cli.engine.checkpoint.hub_reading import fetch_file
from boomerang_cli.engine.checkpoint.parts import Parts, take_apart
from boomerang_cli.engine.checkpoint.ties import without_head_copy
from boomerang_cli.engine.errors import BoomerangError
from boomerang_cli.engine.output.sizes import Size, depths_of, own_order, sizes_of, with_own_layers
from boomerang_cli.engine.pair.layers import Owner
from boomerang_cli.engine.pair.order import Order
from boomerang_cli.engine.pair.origin import told
from boomerang_cli.engine.pair.pair import Pair, check_pair, find_teacher, read_recorded
from boomerang_cli.engine.pair.published import published_student
from boomerang_cli.engine.pair.student_config import StudentConfig, is_student
from boomerang_cli.engine.publishing.provenance import PROVENANCE_FILE, read_license
from boomerang_cli.engine.publishing.record import LayerOrigin, Origin, Record, read_record

ModelKind = Literal["teacher", "student-init", "student", "patched"]
"""A model that nothing is recorded of can be a teacher."""


@dataclass(frozen=True, repr=False)
class ModelInfo(Brief):
    """A model.

    Attributes:
        name: a Hub id, or an absolute path.
        revision: the Hub commit.
        depth: the number of layers.
        layers: k, the number of blocks that were patched; None of a model that is not patched.
        order: of a patched model, the one that its blocks were chosen by; else that in which ``patch`` takes them.
        parameters, bytes: of all tensors; a matrix that is embedding and head counts once.
        dtype: that of most bytes.
        sources: ``owner`` and ``index`` there of each layer.
        made_of: the models that it was made of, by role: ``teacher student delta_student base``.
        license: what its own card declares.
        copied_teacher_layers: which layers of the teacher its own are copies of, or stand for; of a teacher, which
            the student would have that ``init-student`` makes. None where there is no such student.
        sizes: what ``patch`` can make, from this model or such a student (k = 0) to the teacher.
        scored_on: the text of the sweep that the scores of ``sizes`` are from; empty without one.
        distillation, weight_delta: what a student records of its making; empty without.
        notes: what keeps more from being known.
    """

    brief = ("kind", "name", "model_type", "layers", "depth", "parameters", "bytes", "dtype", "sizes")

    kind: ModelKind
    name: str
    revision: str | None
    model_type: str
    depth: int
    layers: int | None
    order: str | None
    patched_blocks: tuple[int, ...]
    parameters: int
    bytes: int
    dtype: str
    tied_embeddings: bool
    sources: tuple[LayerOrigin, ...]
    made_of: Mapping[str, Origin]
    license: Mapping[str, str] | None
    copied_teacher_layers: tuple[int, ...] | None
    sizes: tuple[Size, ...]
    distillation: Mapping[str, Any]
    weight_delta: Mapping[str, Any]
    notes: tuple[str, ...]
    scored_on: tuple[str, ...] = ()


def read_model_info(model: str | Path) -> tuple[ModelInfo, Pair | None]:
    """Look at a model folder or a repository of the Hub, and at its teacher's headers.

    Returns:
        What it is, and of a student the pair that it is of, as its files are, if the teacher is in reach.

    Raises:
        ModelNotFoundError, HubError: it is not there, or out of reach.
        CheckpointError, UnsupportedModelError, PairError: it is damaged, or its layers cannot be moved; says why.
    """
    opened = open_checkpoint(model, download=False)
    family = family_of(opened)
    checkpoint = _without_head_copy(opened, family)
    parts = take_apart(checkpoint, family)
    recorded = read_recorded(checkpoint) if is_student(checkpoint.folder) else None
    made = _record(checkpoint, recorded, len(parts.layers))
    kind = _kind(checkpoint.name, recorded, made)
    teacher, pair, note = opened, None, None
    try:
        if recorded:
            teacher = _open_teacher(opened, recorded)
            pair = Pair(checkpoint, _without_head_copy(teacher, family), family, recorded)
            check_pair(pair)
        elif kind == "teacher":
            pair = with_own_layers(checkpoint, family, parts)
    except BoomerangError as error:
        pair, note = None, str(error)
    known = pair.student_config if pair else recorded
    if pair and recorded:
        made = replace(made, made_of={**made.made_of, "teacher": _origin(pair.teacher, pair.parts["teacher"])})
    owner: Owner = "teacher" if kind == "teacher" else "student"
    info = ModelInfo(
        kind=kind,
        name=checkpoint.name,
        revision=checkpoint.revision,
        model_type=str(checkpoint.config["model_type"]),
        depth=len(parts.layers),
        layers=made.layers,
        order=made.order if kind == "patched" else own_order(known, family).name if known else None,
        patched_blocks=made.patched_blocks,
        parameters=parts.parameters,
        bytes=parts.size_bytes,
        dtype=CONFIG_NAMES[checkpoint.main_dtype],
        tied_embeddings=parts.tied,
        sources=made.sources or tuple(LayerOrigin(owner, index) for index in range(len(parts.layers))),
        made_of=made.made_of,
        license=read_license(checkpoint.folder / "README.md"),
        copied_teacher_layers=known.layer_map.kept if known else None,
        sizes=sizes_of(pair) if pair else depths_of(known, family) if known else (),
        distillation=recorded.distillation if recorded else {},
        weight_delta=recorded.weight_delta if recorded else {},
        notes=(note,) if note else (),
    )
    return info, replace(pair, student=opened, teacher=teacher) if pair and recorded else None


def in_order(info: ModelInfo, pair: Pair, order: Order) -> ModelInfo:
    """Return the same with the sizes of another order, such as a sweep's."""
    student, teacher = (_without_head_copy(each, pair.family) for each in (pair.student, pair.teacher))
    return replace(info, order=order.name, sizes=sizes_of(replace(pair, student=student, teacher=teacher), order))


def _record(checkpoint: Checkpoint, recorded: StudentConfig | None, depth: int) -> Record:
    """Return what ``boomerang.json`` says, and beside it what a student records of its teacher."""
    file = checkpoint.files.get(PROVENANCE_FILE)
    path = fetch_file(file) if isinstance(file, RemoteFile) else checkpoint.folder / PROVENANCE_FILE
    made = read_record(path, depth) if file else Record()
    if recorded and recorded.teacher and "teacher" not in made.made_of:
        teacher = Origin(recorded.teacher, recorded.teacher_revision, recorded.layer_map.teacher_layers)
        return replace(made, made_of={"teacher": teacher, **made.made_of})
    return made


def _kind(name: str, recorded: StudentConfig | None, made: Record) -> ModelKind:
    if made.layers is not None:
        return "patched"
    if recorded is None:
        return "teacher"
    # Students of other tools record neither a teacher nor a training: they are published when they are trained.
    begun = recorded.is_undistilled and not published_student(name)
    return "student-init" if begun else "student"


def _open_teacher(student: Checkpoint, recorded: StudentConfig) -> Checkpoint:
    named = find_teacher(None, student, recorded)
    with told(named.origin):
        return open_checkpoint(named.model, download=False)


def _without_head_copy(checkpoint: Checkpoint, family: Family) -> Checkpoint:
    return replace(checkpoint, tensors=without_head_copy(checkpoint.tensors, checkpoint.config, family))


def _origin(checkpoint: Checkpoint, parts: Parts) -> Origin:
    licence = read_license(checkpoint.folder / "README.md")
    return Origin(checkpoint.name, checkpoint.revision, len(parts.layers), parts.parameters, licence)
