"""The sizes of a pair with all that is known of each, and the one that keeps a user's bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from boomerang_cli.engine.errors import SelectionError
from boomerang_cli.engine.evaluation.rows import SweepRow
from boomerang_cli.engine.evaluation.swept import SCORES, Swept
from boomerang_cli.engine.output.memory import Memory, memory_of
from boomerang_cli.engine.output.planner import Planner
from boomerang_cli.engine.pair.bounds import Bound, Use
from boomerang_cli.engine.pair.order import Order


@dataclass(frozen=True)
class MenuRow(SweepRow):
    """One size; scores are those of a sweep.

    Attributes:
        memory: what it takes where it is used as the user says; None if they do not.
        chosen: whether it is the one to be written.
    """

    memory: Memory | None = None
    chosen: bool = False

    @property
    def needed_bytes(self) -> int | None:
        return self.memory.needed_bytes if self.memory else None

    @property
    def scores(self) -> dict[str, float]:
        """What is known of :data:`swept.SCORES`."""
        return {name: value for name in SCORES if (value := getattr(self, name)) is not None}


def list_sizes(planner: Planner, orders: Sequence[Order], swept: Swept | None, use: Use | None) -> list[MenuRow]:
    """Return the sizes of these orders, each model once, smaller ones first.

    Raises:
        SelectionError, UnsupportedModelError: their memory cannot be told (see ``memory.memory_of``).
    """
    models = {blocks: order.name for order in reversed(orders) for blocks in order.sets}
    rows = [size_of(planner, blocks, name, swept, use) for blocks, name in models.items()]
    return sorted(rows, key=lambda row: (row.parameters, math.inf if row.kl is None else row.kl))


def size_of(planner: Planner, blocks: tuple[int, ...], order: str, swept: Swept | None, use: Use | None) -> MenuRow:
    """Return what is known of one model (errors as in :func:`list_sizes`)."""
    plan, pair = planner.plan(blocks), planner.pair
    scored = swept.rows.get(blocks) if swept else None
    scores: dict[str, Any] = {name: getattr(scored, name, None) for name in SCORES}
    return MenuRow(
        layers=len(blocks),
        depth=len(plan.sources),
        parameters=plan.parameters,
        bytes=plan.size_bytes,
        order=order,
        patched_blocks=blocks,
        **scores,
        memory=memory_of(plan, pair.family, use, pair.teacher.name) if use else None,
    )


def choose(rows: Sequence[MenuRow], bounds: Sequence[Bound]) -> MenuRow:
    """Return the model that keeps all bounds.

    Where one of them is of what a model costs, that is the best that keeps them: the closest to the teacher, or the
    largest where not all of them are scored. Bounds of quality alone ask for the smallest.

    Raises:
        SelectionError: none keeps them; says which bound excludes the last, and by how much. Or a bound is of scores
            that nobody knows.
    """
    left = list(rows)
    for bound in bounds:
        known = [row for row in left if _value(row, bound) is not None]
        if not any(_value(row, bound) is not None for row in rows):
            raise SelectionError(_unscored(bound))
        keeping = [row for row in known if bound.excess(_required(row, bound)) <= 0]
        if not keeping:
            raise SelectionError(_excluded(bound, known, [each.flag for each in bounds[: bounds.index(bound)]]))
        left = keeping
    if all(bound.quality for bound in bounds):
        return min(left, key=lambda row: (row.parameters, math.inf if row.kl is None else row.kl))
    if any(row.kl is None for row in left):
        return max(left, key=lambda row: (row.parameters, row.bytes))
    return min(left, key=lambda row: (math.inf if row.kl is None else row.kl, row.parameters))


def marked(rows: Sequence[MenuRow], chosen: MenuRow) -> tuple[MenuRow, ...]:
    """Return the menu with the chosen size marked; it is added if it is none of these."""
    found = any(row.patched_blocks == chosen.patched_blocks for row in rows)
    every = rows if found else sorted([*rows, chosen], key=lambda row: row.parameters)
    return tuple(replace(row, chosen=row.patched_blocks == chosen.patched_blocks) for row in every)


def _value(row: MenuRow, bound: Bound) -> float | None:
    value: float | None = getattr(row, bound.measure)
    return value


def _required(row: MenuRow, bound: Bound) -> float:
    value = _value(row, bound)
    assert value is not None
    return value


def _unscored(bound: Bound) -> str:
    flag = bound.flag.split()[0]
    command = "boomerang sweep --data TEXT" + (" --speed" if bound.measure == "tokens_per_second" else "")
    return f"{flag} needs scores of this pair, and ./sweep has none: `{command}` finds them, --results names others"


def _excluded(bound: Bound, known: Sequence[MenuRow], kept: Sequence[str]) -> str:
    """Say which bound excludes the last sizes, and by how much the nearest of them misses it."""
    within = f" of those that keep {' and '.join(kept)}" if kept else ""
    if not known:
        return f"no size{within} has a score for {bound.flag}: sweep them, too"
    nearest = min(known, key=lambda row: bound.excess(_required(row, bound)))
    value = _required(nearest, bound)
    return (
        f"no size{within} keeps {bound.flag}: the nearest, {nearest.order} k={nearest.layers}, has "
        f"{bound.show(value)}, {bound.show_excess(value)}"
    )
