"""What to type next: with the user's own arguments, and only what the pair at hand can do."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from boomerang_cli.engine.errors import ModelNotFoundError


def distill_command(student_init: Path, teacher: str) -> str:
    """Return the command that distils a student from the teacher that it was made from."""
    where = [] if student_init == Path("student-init") else [str(student_init)]
    return shlex.join(["boomerang", "distill", *where, *_teacher(teacher)])


def patch_command(student: Path, teacher: str | None) -> str | None:
    """Return the command that makes a model between a student and its teacher; None if there is none between them.

    Args:
        teacher: as the user named it; None if they did not.
    """
    from boomerang_cli.engine.pair.pair import find_student
    from boomerang_cli.engine.pair.student_config import read_student_config

    between = len(read_student_config(student).layer_map.patchable) - 1
    if between < 1:
        return None
    try:
        is_default = Path(find_student(None).model).resolve() == student.resolve()
    except ModelNotFoundError:
        is_default = False
    which = [] if is_default else ["--student", str(student)]
    return shlex.join(["boomerang", "patch", "--layers", str(min(2, between)), *which, *_teacher(teacher)])


def patch_order_command(
    order_file: Path, layers: int, student: str | None, teacher: str | None, keep: Sequence[int] | None
) -> str:
    """Return the command that writes a model that a sweep scored; what the user named is named again."""
    command = ["boomerang", "patch", "--order", str(order_file), "--layers", str(layers)]
    command += ["--student", student] if student else []
    command += ["--teacher", teacher] if teacher else []
    command += ["--keep", ",".join(map(str, keep))] if keep else []
    return shlex.join(command)


def _teacher(teacher: str | None) -> list[str]:
    """A student records its teacher, but BOOMERANG_TEACHER goes before what it records."""
    other = os.environ.get("BOOMERANG_TEACHER")
    return ["--teacher", teacher] if teacher and other and other != teacher else []
