"""The files of a sweep: results.json, results.csv, order.json and curve.png, each whole or not there."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.evaluation.curve import draw_curve
from boomerang_cli.engine.evaluation.rows import SweepResult, SweepRow, best_order
from boomerang_cli.engine.layers import LayerMap
from boomerang_cli.engine.order import Order
from boomerang_cli.engine.writer import as_json_text

RESULTS_FILE, TABLE_FILE, ORDER_FILE, CURVE_FILE = "results.json", "results.csv", "order.json", "curve.png"


def write_results(result: SweepResult, orders: Sequence[Order], layer_map: LayerMap) -> None:
    """Write what a sweep found out to its folder, in place of what an earlier run wrote.

    ``order.json`` is the order whose sizes are closest to the teacher in the mean; of several orders, each also stands
    in ``order-<name>.json``.

    Raises:
        OutputError: a file cannot be written.
    """
    folder, rows = result.path, result.rows
    _write(folder / RESULTS_FILE, as_json_text({**dataclasses.asdict(result), "path": str(folder)}).encode())
    _write(folder / TABLE_FILE, _csv(rows).encode())
    best = best_order(rows)
    for order in orders:
        content = as_json_text(order.as_json(layer_map)).encode()
        if order.name == best:
            _write(folder / ORDER_FILE, content)
        if len(orders) > 1:
            _write(folder / f"order-{order.name}.json", content)
    if (picture := draw_curve(rows, len(layer_map.patchable))) is not None:
        _write(folder / CURVE_FILE, picture)


def _csv(rows: Sequence[SweepRow]) -> str:
    """Return one line a row; what lies deeper gets a column of its own: ``baseline_kl``, ``tasks_arc_easy_acc``."""
    flat = [_flat(dataclasses.asdict(row)) for row in rows]
    columns = list(dict.fromkeys(column for line in flat for column in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}_")
        elif not (value is None and key in ("baseline", "tasks")):
            flat[prefix + key] = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return flat


def _write(path: Path, content: bytes) -> None:
    try:
        descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.partial-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            umask = os.umask(0o077)
            os.umask(umask)
            Path(partial).chmod(0o666 & ~umask)
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from None
