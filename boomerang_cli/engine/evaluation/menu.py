"""The sizes of a pair with all that is known of each, and the one that keeps a user's bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from boomerang_cli.engine.errors import SelectionError, UnsupportedModelError
from boomerang_cli.engine.evaluation.rows import SCORES, SweepRow
from boomerang_cli.engine.evaluation.swept import Swept
from boomerang_cli.engine.output.plan import Plan
from boomerang_cli.engine.output.planner import Planner
from boomerang_cli.engine.pair.bounds import WRITING_SPEED, Bound, Use
from boomerang_cli.engine.pair.order import Order
from boomerang_cli.engine.pair.pair import Pair

if TYPE_CHECKING:
    from boomerang_cli.engine.output.memory import Memory


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


def make_menu(
    planner: Planner,
    orders: Sequence[Order],
    swept: Swept | None,
    use: Use | None,
    bounds: Sequence[Bound],
    outright: tuple[int, ...] | None,
) -> tuple[MenuRow, ...]:
    """Return the sizes of these orders, each model once, smaller ones first, with the one that is wanted marked.

    Args:
        outright: the blocks of the model that is wanted, which may be none of these; None where bounds decide.

    Raises:
        SelectionError: no size keeps the bounds (see :func:`_choose`), or a context that the model does not have.
        UnsupportedModelError: a type whose memory cannot be told.
    """
    models = {blocks: order.name for order in reversed(orders) for blocks in order.sets}
    if outright is not None:
        models.setdefault(outright, "given")
    plans = {blocks: plan for blocks in models if (plan := _plan(planner, blocks, needed=blocks == outright))}
    rows = [_row(planner.pair, blocks, models[blocks], plan, swept, use) for blocks, plan in plans.items()]
    rows.sort(key=lambda row: (row.parameters, _kl(row)))
    chosen = _choose(rows, bounds, swept).patched_blocks if outright is None else outright
    return tuple(replace(row, chosen=row.patched_blocks == chosen) for row in rows)


def _plan(planner: Planner, blocks: tuple[int, ...], *, needed: bool) -> Plan | None:
    """Plan a model; None if the type has none with these layers, and it is not the one that is needed."""
    try:
        return planner.plan(blocks)
    except UnsupportedModelError:
        if needed:
            raise
        return None


def _row(pair: Pair, blocks: tuple[int, ...], order: str, plan: Plan, swept: Swept | None, use: Use | None) -> MenuRow:
    scored = swept.rows.get(blocks) if swept else None
    memory = None
    if use:
        from boomerang_cli.engine.output.memory import memory_of

        memory = memory_of(plan, pair.family, use, pair.teacher.name)
    scores: dict[str, Any] = {name: getattr(scored, name, None) for name in SCORES}
    return MenuRow(
        layers=len(blocks),
        depth=len(plan.sources),
        parameters=plan.parameters,
        bytes=plan.size_bytes,
        order=order,
        patched_blocks=blocks,
        **scores,
        tasks=scored.tasks if scored else None,
        memory=memory,
    )


def _choose(rows: Sequence[MenuRow], bounds: Sequence[Bound], swept: Swept | None) -> MenuRow:
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
            raise SelectionError(_unscored(bound, swept))
        keeping = [row for row in known if bound.excess(_required(row, bound)) <= 0]
        if not keeping:
            raise SelectionError(_excluded(bound, known, [each.flag for each in bounds[: bounds.index(bound)]]))
        left = keeping
    if all(bound.quality for bound in bounds):
        return min(left, key=lambda row: (row.parameters, _kl(row)))
    if any(row.kl is None for row in left):
        return min(left, key=lambda row: (-row.parameters, _kl(row)))
    return min(left, key=lambda row: (_kl(row), row.parameters))


def _kl(row: MenuRow) -> float:
    """Return its KL, or what is above any."""
    return math.inf if row.kl is None else row.kl


def _value(row: MenuRow, bound: Bound) -> float | None:
    value: float | None = getattr(row, bound.measure)
    return value


def _required(row: MenuRow, bound: Bound) -> float:
    value = _value(row, bound)
    assert value is not None
    return value


def _unscored(bound: Bound, swept: Swept | None) -> str:
    flag, where = bound.flag.split()[0], swept.folder if swept else "./sweep"
    command = "boomerang sweep --data TEXT" + (" --speed" if bound.measure == WRITING_SPEED else "")
    return f"{flag} needs scores of this pair, and {where} has none: `{command}` finds them, --results names others"


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
