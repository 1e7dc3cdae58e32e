"""The models of a sweep on disk: planned all together, then written one after another."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from boomerang_cli.engine.checkpoint.json_files import read_json
from boomerang_cli.engine.errors import CheckpointError, OutputError
from boomerang_cli.engine.evaluation.rows import SweepRow
from boomerang_cli.engine.evaluation.sweep_files import keep_folder
from boomerang_cli.engine.output.block_sharing import arrange_for_sharing
from boomerang_cli.engine.output.output_folder import check_output
from boomerang_cli.engine.output.plan import as_json_text
from boomerang_cli.engine.output.planner import Planner
from boomerang_cli.engine.output.writer import write_model
from boomerang_cli.engine.pair.order import Order
from boomerang_cli.engine.pair.patched_config import patched_config
from boomerang_cli.engine.publishing.provenance import PROVENANCE_FILE, provenance


def check_models(rows: Iterable[SweepRow], target: Path) -> None:
    """Refuse to write models that would replace something else, or that the disk has no room for all together.

    Raises:
        OutputError: says which, or how much is needed.
    """
    missing = {place: row for place, row in _places(rows, target).items() if not _is_there(place, row)}
    for place in missing:
        check_output(place, "patched", overwrite=True)
    needed = sum(row.bytes for row in missing.values())
    parent = next(folder for folder in (target.absolute(), *target.absolute().parents) if folder.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise OutputError(
            f"--write needs {needed:,} bytes for {len(missing)} models, and {parent} has {free:,} free: "
            "make room, choose fewer with --layers, or give another --output"
        )


def write_models(
    rows: Iterable[SweepRow],
    orders: Iterable[Order],
    planner: Planner,
    target: Path,
    tell: Callable[[str, int, int], None],
) -> None:
    """Write the models that are not there yet to folders in ``target``; each is there whole or not at all.

    Args:
        orders: those of the rows.

    Raises:
        OutputError: one of them cannot be written.
    """
    places, by_name = _places(rows, target), {order.name: order for order in orders}
    for done, (place, row) in enumerate(places.items()):
        tell("Writing models", done, len(places))
        if _is_there(place, row):
            continue
        plan = planner.plan(row.patched_blocks)
        made = provenance(plan, planner.pair, order=row.order, patched_blocks=row.patched_blocks)
        plan = plan.with_documents({PROVENANCE_FILE: as_json_text(made)})
        plan = plan.with_student_config(patched_config(planner.pair, row.patched_blocks, by_name[row.order]))
        keep_folder(target, place.name)
        write_model(arrange_for_sharing(plan, place), place, "patched", overwrite=place.exists())


def _places(rows: Iterable[SweepRow], target: Path) -> dict[Path, SweepRow]:
    """Return where each model goes; a model that several orders have goes where the first of them puts it.

    That is ``18L``, or ``18L-first`` beside other orders, or ``18L-k2`` where an order has two sizes of that depth.
    """
    models: dict[tuple[int, ...], SweepRow] = {}
    for row in rows:
        models.setdefault(row.patched_blocks, row)
    alone = len({row.order for row in models.values()}) == 1
    places: dict[Path, SweepRow] = {}
    for row in models.values():
        name = f"{row.depth}L" if alone else f"{row.depth}L-{row.order}"
        name = f"{name}-k{row.layers}" if target / name in places else name
        places[target / name] = row
    return places


def _is_there(place: Path, row: SweepRow) -> bool:
    """Tell whether an earlier run wrote this model; one of another order may have the same depth."""
    try:
        return read_json(place / PROVENANCE_FILE).get("patched_blocks") == list(row.patched_blocks)
    except CheckpointError:
        return False
