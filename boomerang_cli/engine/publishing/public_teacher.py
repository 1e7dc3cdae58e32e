"""The teacher that others make a published student's sizes with: it has to be one that they can open, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from boomerang_cli.engine.checkpoint.checkpoint import BUILTIN_DEMO, Checkpoint, read_checkpoint
from boomerang_cli.engine.checkpoint.hub_reading import check_repo_id, is_repo_id, locate
from boomerang_cli.engine.pair.published import published_student
from boomerang_cli.engine.publishing.card_metadata import as_mapping
from boomerang_cli.engine.publishing.provenance import read_license

WARNING = (
    "warning: nobody else can make other sizes of this, as it names no teacher that they could open: "
    "`boomerang push --teacher-id OWNER/NAME` names it on the Hub"
)


def open_public_teacher(teacher_id: str) -> Checkpoint:
    """Open a teacher on the Hub, from headers; a folder of that name is not meant.

    Raises:
        ModelNotFoundError: there is none.
        HubError, CheckpointError: the Hub fails, or the model is damaged.
    """
    check_repo_id(teacher_id.partition("@")[0])
    found = locate(teacher_id)
    return read_checkpoint(found.folder, name=found.repo_id, revision=found.revision, files=found.files)


def made_with_teacher(made: Mapping[str, Any], teacher: Checkpoint) -> dict[str, Any]:
    """Return the content of a ``boomerang.json`` with this teacher in place of the one that it names."""
    licence = read_license(teacher.folder / "README.md")
    named = {"name": teacher.name, "revision": teacher.revision, "license": licence}
    return {**made, "teacher": {**as_mapping(made.get("teacher")), **named}}


def is_for_all(recorded: Mapping[str, Any], repo_id: str) -> bool:
    """Tell whether others find the teacher of a student that is published as ``repo_id``, and records this."""
    teacher = recorded.get("teacher")
    return is_named_for_all(teacher) or (teacher is None and published_student(repo_id) is not None)


def is_named_for_all(teacher: Any) -> bool:
    """Tell whether a recorded teacher is one that everybody can open."""
    return isinstance(teacher, str) and (is_repo_id(teacher) or teacher == BUILTIN_DEMO)
