"""What a sweep found out: read back from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from boomerang_cli.engine.brief import Brief
from boomerang_cli.engine.checkpoint.json_files import read_json
from boomerang_cli.engine.checkpoint.weights import CONFIG_FILE
from boomerang_cli.engine.errors import CheckpointError
from boomerang_cli.engine.evaluation.pareto import Recommendation, Size
from boomerang_cli.engine.evaluation.read_rows import read_rows
from boomerang_cli.engine.evaluation.rows import ORDER_FILE, SweepRow
from boomerang_cli.engine.output.output_marker import RESULTS_FILE


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
    content = read_json(path / RESULTS_FILE) if finished else {"rows": []}
    damaged = CheckpointError(f"{path / RESULTS_FILE} holds no rows of a sweep: run the sweep again")
    order = read_json(path / ORDER_FILE).get("order") if (path / ORDER_FILE).is_file() else None
    return SweepInfo(
        kind="sweep",
        path=path,
        finished=finished,
        teacher=content.get("teacher"),
        student=content.get("student"),
        data=tuple(map(str, content.get("data") or ())),
        order=order if isinstance(order, str) else None,
        rows=read_rows(content.get("rows"), damaged),
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
