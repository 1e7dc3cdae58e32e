"""The files of a sweep: results.json, results.csv, order.json, curve.png, .svg, samples.md, each whole or not there."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from boomerang_cli.engine.evaluation.curve import draw_curve
from boomerang_cli.engine.evaluation.rows import (
    ORDER_FILE,
    PICTURE_FILE,
    SAMPLES_FILE,
    TABLE_FILE,
    VECTORS_FILE,
    SweepResult,
    SweepRow,
    best_order,
)
from boomerang_cli.engine.evaluation.samples import samples_document
from boomerang_cli.engine.evaluation.sweep_files import keep_file
from boomerang_cli.engine.output.output_marker import RESULTS_FILE
from boomerang_cli.engine.output.plan import as_json_text
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.order import Order


def write_results(
    result: SweepResult, orders: Sequence[Order], layer_map: LayerMap, on_note: Callable[[str], None]
) -> None:
    """Write what a sweep found out to its folder, in place of what an earlier run wrote.

    ``order.json`` is the order whose sizes are closest to the teacher in the mean; of several orders, each also stands
    in ``order-<name>.json``.

    Raises:
        OutputError: a file cannot be written.
    """
    folder, rows = result.path, result.rows
    keep_file(folder, RESULTS_FILE, as_json_text({**dataclasses.asdict(result), "path": str(folder)}).encode())
    keep_file(folder, TABLE_FILE, _csv(rows).encode())
    best = best_order(rows)
    for order in orders:
        content = as_json_text(order.as_json(layer_map)).encode()
        if order.name == best:
            keep_file(folder, ORDER_FILE, content)
        if len(orders) > 1:
            keep_file(folder, f"order-{order.name}.json", content)
    if picture := draw_curve(result, len(layer_map.patchable)):
        keep_file(folder, PICTURE_FILE, picture.png)
        keep_file(folder, VECTORS_FILE, picture.svg)
        if picture.left_out:
            on_note(f"{folder / PICTURE_FILE} leaves out what is no number: {', '.join(picture.left_out)}")
    if result.asked.get("prompts"):
        keep_file(folder, SAMPLES_FILE, samples_document(rows, result.asked, len(layer_map.patchable)).encode())


def _csv(rows: Sequence[SweepRow]) -> str:
    """Return one line a row; what lies deeper gets a column of its own: ``baseline_kl``, ``tasks_arc_easy_acc``.

    Samples are texts of many lines, and no numbers: they are not in it.
    """
    flat = [_flat(dataclasses.asdict(dataclasses.replace(row, samples=None))) for row in rows]
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
        elif not (value is None and key in ("baseline", "tasks", "samples")):
            flat[prefix + key] = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return flat
