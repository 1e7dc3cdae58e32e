"""What a sweep found out: read back from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from boomerang_cli.engine.brief import Brief
from boomerang_cli.engine.checkpoint.json_files import read_json
from boomerang_cli.engine.checkpoint.weights import CONFIG_FILE
from boomerang_cli.engine.errors import CheckpointError
from boomerang_cli.engine.evaluation.pareto import Recommendation, Size
from boomerang_cli.engine.evaluation.rows import ORDER_FILE, RESULTS_FILE, SweepRow

_NEEDED = {"layers": int, "depth": int, "parameters": int, "bytes": int, "order": str, "patched_blocks": list}


@dataclass(frozen=True, repr=False)
class SweepInfo(Brief):
    """A sweep.

    Attributes:
        teacher, student: as they were recorded; None where the sweep was stopped before its end, like ``order``.
        order: that of ``order.json``.
        recommended: as the sweep found it.
        models: the folders of the models that it wrote.
    """

    brief = ("path", "finished", "teacher", "student", "data", "rows", "models")

    kind: Literal["sweep"]
    path: Path
    finished: bool
    teacher: str | None
    student: str | None
    data: tuple[str, ...]
    order: str | None
    rows: tuple[SweepRow, ...]
    recommended: Recommendation | None
    models: tuple[Path, ...]


def read_sweep_info(path: Path) -> SweepInfo:
    """Read a sweep's results.

    Raises:
        CheckpointError: they are damaged.
    """
    finished = (path / RESULTS_FILE).is_file()
    content = read_json(path / RESULTS_FILE) if finished else {}
    order = read_json(path / ORDER_FILE).get("order") if (path / ORDER_FILE).is_file() else None
    return SweepInfo(
        kind="sweep",
        path=path,
        finished=finished,
        teacher=content.get("teacher"),
        student=content.get("student"),
        data=tuple(map(str, content.get("data") or ())),
        order=order if isinstance(order, str) else None,
        rows=read_rows(content, path / RESULTS_FILE),
        recommended=_recommendation(content.get("recommended"), path / RESULTS_FILE),
        models=tuple(sorted(config.parent for config in path.glob(f"*/{CONFIG_FILE}"))),
    )


def _recommendation(content: Any, name: Path) -> Recommendation | None:
    """Return what the sweep recommends; older ones recommend nothing."""
    if content is None:
        return None
    try:
        sizes = [Size(**{**each, "patched_blocks": tuple(each["patched_blocks"])}) for each in content["pareto"]]
        knee = next((size for size in sizes if content["knee"] and size.layers == content["knee"]["layers"]), None)
        return Recommendation(content["measure"], tuple(sizes), knee, content["rule"], content["reason"])
    except (TypeError, LookupError):
        raise CheckpointError(f"{name} holds no recommendation of a sweep: run the sweep again") from None


def read_rows(content: Mapping[str, Any], name: Path) -> tuple[SweepRow, ...]:
    """Return the rows of a ``results.json``; what other versions wrote beside them is left out.

    Raises:
        CheckpointError: they are none of a sweep.
    """
    rows = content.get("rows", [])
    known = {field.name for field in fields(SweepRow)}
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise CheckpointError(f"{name} holds no rows of a sweep: run the sweep again")
    return tuple(
        SweepRow(**{**{key: row[key] for key in row if key in known}, "patched_blocks": tuple(row["patched_blocks"])})
        for row in rows
    )


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(key), kind) for key, kind in _NEEDED.items())
