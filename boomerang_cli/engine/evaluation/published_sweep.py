"""The scores that a student is published with: one file in its repository, which ``patch`` chooses by.

It is anybody's file, read as one: numbers and orders of this pair, and nothing else. It names the weights that were
scored by what survives an upload (see ``content_digest.py``), so that scores of a student that was trained on are not
taken for those of the new one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.files import RemoteFile
from boomerang_cli.engine.checkpoint.hub_reading import fetch_file
from boomerang_cli.engine.checkpoint.json_files import read_json
from boomerang_cli.engine.errors import CheckpointError, SelectionError
from boomerang_cli.engine.evaluation.read_rows import read_rows
from boomerang_cli.engine.evaluation.rows import SweepRow
from boomerang_cli.engine.evaluation.swept import Swept, by_blocks, read_names
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.order import parse_order
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.pair.student_config import SCORES_FILE


def published(swept: Swept, layer_map: LayerMap, digests: dict[str, str | None]) -> dict[str, Any]:
    """Return the content of the file.

    Args:
        digests: those of ``swept.digests_of``, of the files as they are published.
    """
    orders = [swept.best, *(order for order in swept.orders.values() if order != swept.best)]
    return {
        "data": list(swept.data),
        "rows": row_contents(swept),
        "orders": [order.as_json(layer_map) for order in orders],
        "sha256": digests,
    }


def row_contents(swept: Swept) -> list[dict[str, Any]]:
    """Return what is known of each model, the smallest and closest first."""
    rows = sorted(swept.rows.values(), key=lambda row: (row.layers, row.kl or 0.0, row.patched_blocks))
    return list(map(_row_content, rows))


def _row_content(row: SweepRow) -> dict[str, Any]:
    planned = ("layers", "depth", "parameters", "bytes", "order")
    scores = {name: value for name, value in row.scores.items() if not name.endswith("per_second")}  # of this machine
    own = {**{name: getattr(row, name) for name in planned}, "patched_blocks": list(row.patched_blocks), **scores}
    return {**own, "tasks": dict(row.tasks)} if row.tasks else own


def find_published(pair: Pair, on_note: Callable[[str], None]) -> Swept | None:
    """Return the scores that a student came with, if they are of the very weights of this pair.

    Args:
        on_note: told why they are not used.

    Raises:
        HubError: the Hub fails.
    """
    file = pair.student.files[SCORES_FILE]
    place = Path(pair.student.name) / SCORES_FILE
    path = fetch_file(file) if isinstance(file, RemoteFile) else file.path
    try:
        swept = _read(path, pair.layer_map, place)
        other = swept.other_files(pair)
    except (CheckpointError, SelectionError) as error:
        on_note(f"{place} is not used: {error}")
        return None
    if other:
        on_note(f"{place} is not used: it scored another {other}")
        return None
    return swept


def _read(path: Path, layer_map: LayerMap, place: Path) -> Swept:
    content, damaged = read_json(path), SelectionError("it holds no sweep")
    rows, orders, digests = (content.get(key) for key in ("rows", "orders", "sha256"))
    if not isinstance(orders, list) or not orders or not isinstance(digests, dict):
        raise damaged
    if not _is_printable(content):  # names of it come to a terminal
        raise SelectionError("it holds names that cannot be printed")
    read = [parse_order(order, layer_map) for order in orders]
    return Swept(
        folder=place,
        data=read_names(content.get("data")),
        best=read[0],
        orders={order.name: order for order in (read[0], *reversed(read))},
        rows=by_blocks(read_rows(rows, damaged), layer_map),
        fingerprints={},
        sha256=digests,
    )


def _is_printable(content: Any) -> bool:
    if isinstance(content, dict):
        return all(map(_is_printable, (*content, *content.values())))
    if isinstance(content, list):
        return all(map(_is_printable, content))
    return not isinstance(content, str) or content.isprintable()
