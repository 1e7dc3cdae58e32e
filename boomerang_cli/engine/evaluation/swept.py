"""What a sweep found out of a pair, read from the folder that it wrote: the orders, and the scores of models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.files import ask
from boomerang_cli.engine.checkpoint.fingerprint import fingerprint
from boomerang_cli.engine.checkpoint.json_files import read_json
from boomerang_cli.engine.errors import CheckpointError, SelectionError
from boomerang_cli.engine.evaluation.orders import SEARCHED
from boomerang_cli.engine.evaluation.rows import RESULTS, SweepRow
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.order import NAMED, Order, find_order, read_order
from boomerang_cli.engine.pair.pair import Pair

FOLDER = Path("sweep")
RESULTS_FILE, ORDER_FILE = RESULTS[0], RESULTS[2]
_WHOLE = ("layers", "depth", "parameters", "bytes")
SCORES = ("perplexity", "perplexity_stderr", "kl", "kl_stderr", "top1", "acceptance", "tokens_per_second")


@dataclass(frozen=True)
class Swept:
    """A sweep of one pair.

    Attributes:
        data: the text that was scored on.
        best: ``order.json``.
        orders: by name, the best first.
        rows: models with what they score, by the blocks that are patched.
        fingerprints: of the models that were scored.
    """

    folder: Path
    data: tuple[str, ...]
    best: Order
    orders: Mapping[str, Order]
    rows: Mapping[tuple[int, ...], SweepRow]
    fingerprints: Mapping[str, str]

    def other_files(self, pair: Pair) -> str | None:
        """Return which of the two models has other files than those that were scored; None if neither has."""
        models = {"student": pair.student, "teacher": pair.teacher}
        differing = [name for name, each in models.items() if self.fingerprints.get(name) != fingerprint(each)]
        return " and ".join(differing) or None


def find_swept(
    pair: Pair, order: str | None, results: str | Path | None, on_note: Callable[[str], None]
) -> Swept | None:
    """Return the sweep that ``results`` names, else that of an order file, else ``./sweep`` if it is of this pair.

    Args:
        on_note: told of a sweep that is not used, or that scored other files than the pair's.

    Raises:
        CheckpointError, SelectionError: ``results`` is no sweep, or one of another student.
    """
    if results is not None:
        folder = Path(results).expanduser()
        folder = folder.parent if folder.name == RESULTS_FILE else folder
        if not _is_sweep(folder):
            raise SelectionError(f"--results {results} holds no {RESULTS_FILE}: give the folder that a sweep wrote")
        swept = _read(folder, pair.layer_map)
        if other := swept.other_files(pair):
            on_note(f"warning: {folder} scored other files of the {other} than these: its scores may not be theirs")
        return swept
    folder = Path(order).parent if order and ask(Path(order).is_file) else FOLDER
    if not _is_sweep(folder):
        return None
    try:
        swept = _read(folder, pair.layer_map)
    except (CheckpointError, SelectionError) as error:
        on_note(f"{folder} is not used: {error}")
        return None
    if other := swept.other_files(pair):
        on_note(f"{folder} is not used: it scored other files of the {other}; --results {folder} takes it all the same")
        return None
    return swept


def choose_order(order: str | None, pair: Pair, swept: Swept | None) -> Order:
    """Return the order that ``--order`` names; None is the best of the sweep, else ``auto``.

    Raises:
        SelectionError: no such order; lists those that there are.
    """
    if order is None and swept is not None:
        return swept.best
    searched = swept.orders if swept else {}
    if order is not None and order in searched and order not in NAMED:
        return searched[order]
    names = (*NAMED, *(name for name in searched if name not in NAMED))
    if order in SEARCHED:
        raise SelectionError(
            f"--order {order} is found by a search: there are {', '.join(names)}; `boomerang sweep --data TEXT --order "
            f"{order}` finds it"
        )
    return find_order(order or "auto", pair.layer_map, pair.student_config.order, pair.family.order, names=names)


def taken_from(swept: Swept, chosen: SweepRow, order: str | None) -> str:
    """Say what a choice took from a sweep, and where the sweep knows a closer model with as many blocks patched."""
    told = f"{swept.folder}: order {chosen.order}" if order is None else f"{swept.folder}: its scores"
    if chosen.kl is None:
        return f"{told}, this size not scored" if order is None else f"{told} have not this size"
    same = [row for row in swept.rows.values() if row.layers == chosen.layers and row.kl is not None]
    closest = min(same, key=lambda row: row.kl or 0.0)
    told += f", KL {chosen.kl:.4f} on {', '.join(swept.data)}"
    if closest.kl is not None and closest.kl < chosen.kl:
        told += f"; {closest.order} is closer here, {closest.kl:.4f}: --order {closest.order}"
    return told


def _is_sweep(folder: Path) -> bool:
    return ask((folder / RESULTS_FILE).is_file)


def _read(folder: Path, layer_map: LayerMap) -> Swept:
    best = read_order(folder / ORDER_FILE, layer_map)
    others = [read_order(path, layer_map) for path in sorted(folder.glob("order-*.json"))]
    content = read_json(folder / RESULTS_FILE)
    rows = content.get("rows")
    if not isinstance(rows, list):
        raise SelectionError(f"{folder / RESULTS_FILE} holds no rows: write it anew with `boomerang sweep --overwrite`")
    read = [_row(row, layer_map, folder) for row in rows]
    prints, data = content.get("fingerprints"), content.get("data")
    return Swept(
        folder=folder,
        data=tuple(map(str, data)) if isinstance(data, list) else (),
        best=best,
        orders={order.name: order for order in (best, *others)},
        rows={row.patched_blocks: row for row in reversed(read)},
        fingerprints=prints if isinstance(prints, dict) else {},
    )


def _row(content: Any, layer_map: LayerMap, folder: Path) -> SweepRow:
    """Return a row; what is no number there is not known.

    Raises:
        SelectionError: it is no row of this pair.
    """
    damaged = SelectionError(f"{folder / RESULTS_FILE} is damaged: `boomerang sweep --overwrite` writes it anew")
    if not isinstance(content, dict) or not isinstance(content.get("patched_blocks"), list):
        raise damaged
    if any(type(content.get(name)) is not int for name in _WHOLE) or not isinstance(content.get("order"), str):
        raise damaged
    try:
        blocks = layer_map.check_blocks(content["patched_blocks"])
    except TypeError:
        raise damaged from None
    scores = {name: content[name] for name in SCORES if _is_number(content.get(name))}
    planned = {name: content[name] for name in _WHOLE}
    return SweepRow(**planned, order=content["order"], patched_blocks=blocks, **scores)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
