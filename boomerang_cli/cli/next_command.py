"""What to type next: with the user's own arguments, and only what the pair at hand can do."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from boomerang_cli.engine.errors import ModelNotFoundError

if TYPE_CHECKING:
    from boomerang_cli.engine.evaluation.rows import SweepResult


def distill_command(student_init: Path, teacher: str) -> str:
    """Return the command that distils a student from the teacher that it was made from."""
    where = [] if student_init == Path("student-init") else [str(student_init)]
    return shlex.join(["boomerang", "distill", *where, *_teacher(teacher)])


def patch_command(student: Path, teacher: str | None) -> str | None:
    """Return the command that makes a model between a student and its teacher; None if there is none between them.

    Args:
        teacher: as the user named it; None if they did not.
    """
    from boomerang_cli.engine.pair.student_config import read_student_config

    between = len(read_student_config(student).layer_map.patchable) - 1
    if between < 1:
        return None
    which = student_flag(str(student))
    return shlex.join(["boomerang", "patch", "--layers", str(min(2, between)), *which, *_teacher(teacher)])


def student_flag(student: str) -> list[str]:
    """Return the words that name a student, none where a command finds it by itself."""
    from boomerang_cli.engine.pair.pair import find_student

    try:
        default = find_student(None).model
    except ModelNotFoundError:
        return ["--student", student]
    is_default = student == str(default) or Path(default).resolve() == Path(student).resolve()
    return [] if is_default else ["--student", student]


def recommended_command(
    result: SweepResult, student: str | None, teacher: str | None, keep: Sequence[int] | None
) -> str | None:
    """Return the command that writes the size that a sweep recommends; None if it recommends none.

    What the user named is named again; the order is, where ``patch`` would not find it by itself.
    """
    from boomerang_cli.engine.evaluation.rows import best_order

    knee = result.recommended.knee if result.recommended else None
    if knee is None:
        return None
    command = ["boomerang", "patch", "--layers", str(knee.layers)]
    if result.path != Path("sweep"):
        several = len({row.order for row in result.rows}) > 1
        command += ["--order", str(result.path / (f"order-{knee.order}.json" if several else "order.json"))]
    elif knee.order != best_order(result.rows):
        command += ["--order", knee.order]
    command += ["--student", student] if student else []
    command += ["--teacher", teacher] if teacher else []
    command += ["--keep", ",".join(map(str, keep))] if keep else []
    return shlex.join(command)


def _teacher(teacher: str | None) -> list[str]:
    """A student records its teacher, but BOOMERANG_TEACHER goes before what it records."""
    other = os.environ.get("BOOMERANG_TEACHER")
    return ["--teacher", teacher] if teacher and other and other != teacher else []
