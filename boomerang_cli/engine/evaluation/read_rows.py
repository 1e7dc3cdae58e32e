"""The rows of a sweep as a file holds them: whoever wrote it, and whichever version."""

from __future__ import annotations

import sys
from typing import Any

from boomerang_cli.engine.errors import BoomerangError
from boomerang_cli.engine.evaluation.rows import SCORES, SweepRow
from boomerang_cli.engine.pair.student_config import is_whole_numbers

_WHOLE = ("layers", "depth", "parameters", "bytes")


def read_rows(content: Any, damaged: BoomerangError) -> tuple[SweepRow, ...]:
    """Return the rows; what is no number there is not known, and what other versions wrote beside is left out.

    Raises:
        BoomerangError: ``damaged``, where they are none of a sweep.
    """
    if not isinstance(content, list):
        raise damaged
    return tuple(_row(row, damaged) for row in content)


def _row(content: Any, damaged: BoomerangError) -> SweepRow:
    if not isinstance(content, dict) or not is_whole_numbers(content.get("patched_blocks")):
        raise damaged
    if any(type(content.get(name)) is not int for name in _WHOLE) or not isinstance(content.get("order"), str):
        raise damaged
    planned = {name: content[name] for name in (*_WHOLE, "order")}
    scores = _numbers({name: content.get(name) for name in (*SCORES, "memory_bytes")})
    return SweepRow(
        **planned,
        patched_blocks=tuple(content["patched_blocks"]),
        **scores,  # type: ignore[arg-type]
        baseline=_numbers(content.get("baseline")) or None,
        tasks=_tasks(content.get("tasks")),
        samples=_samples(content.get("samples")),
        portable=content.get("portable") is not False,
    )


def _tasks(content: Any) -> dict[str, dict[str, float]] | None:
    """Return lm-eval's numbers by task, as far as they are numbers."""
    if not isinstance(content, dict):
        return None
    return {task: _numbers(own) for task, own in content.items() if isinstance(own, dict)} or None


def _samples(content: Any) -> tuple[dict[str, str], ...] | None:
    if not isinstance(content, list):
        return None
    return tuple({name: str(text) for name, text in each.items()} for each in content if isinstance(each, dict))


def _numbers(content: Any) -> dict[str, float]:
    return {name: each for name, each in content.items() if _is_number(each)} if isinstance(content, dict) else {}


def _is_number(value: Any) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) < sys.float_info.max  # neither a NaN nor an integer that no float can hold
