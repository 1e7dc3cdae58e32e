"""What to type next: with the user's own arguments, and only what the pair at hand can do."""

from __future__ import annotations

import math
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
) -> tuple[str, str] | None:
    """Return the command that writes the size that a sweep recommends, and what to say of it.

    Where it recommends none, that is a bound that a size of the middle keeps; None if no text was scored. What the user
    named is named again; the sweep and its order are, where ``patch`` would not find them by itself.
    """
    if result.recommended is None:
        return None
    knee, front = result.recommended.knee, result.recommended.pareto
    command = ["boomerang", "patch"]
    if knee:
        command += ["--layers", str(knee.layers), *_order(result, knee.order)]
    else:
        command += ["--max-kl", f"{math.ceil(front[(len(front) - 1) // 2].kl * 1000) / 1000:g}"]
    command += ["--results", str(result.path)] if result.path != Path("sweep") else []
    command += ["--student", student] if student else []
    command += ["--teacher", teacher] if teacher else []
    command += ["--keep", ",".join(map(str, keep))] if keep else []
    return shlex.join(command), "write the recommended size" if knee else "choose a size by a bound"


def _order(result: SweepResult, name: str) -> list[str]:
    """Name the order of a sweep's row, where it is not the one that ``patch`` takes by itself."""
    from boomerang_cli.engine.evaluation.rows import best_order

    return [] if name == best_order(result.rows) else ["--order", name]


def _teacher(teacher: str | None) -> list[str]:
    """A student records its teacher, but BOOMERANG_TEACHER goes before what it records."""
    other = os.environ.get("BOOMERANG_TEACHER")
    return ["--teacher", teacher] if teacher and other and other != teacher else []
