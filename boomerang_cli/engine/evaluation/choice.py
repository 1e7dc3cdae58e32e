"""Which model of a pair is to be written: of the sizes that a user could mean, by what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from boomerang_cli.engine.evaluation.known_scores import known_scores
from boomerang_cli.engine.output.planner import Planner
from boomerang_cli.engine.pair.bounds import Use
from boomerang_cli.engine.pair.order import Order, find_order
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.pair.selection import Selection

if TYPE_CHECKING:
    from boomerang_cli.engine.evaluation.menu import MenuRow
    from boomerang_cli.engine.output.memory import Memory


@dataclass(frozen=True)
class Choice:
    """A model of a pair.

    Attributes:
        blocks: the patched ones, ascending.
        order: that they are taken by.
        named: its name; None where the blocks were named one by one.
        scores: what a sweep says of the model, where one is known.
        menu: the sizes that it was chosen from; empty where none had to be looked at.
    """

    blocks: tuple[int, ...]
    order: Order
    named: str | None
    scores: Mapping[str, float]
    menu: tuple[MenuRow, ...]

    @property
    def memory(self) -> Memory | None:
        """What it takes where it is used; None where the user did not say how it is."""
        return next((row.memory for row in self.menu if row.chosen), None)


def choose_model(
    selection: Selection,
    planner: Planner,
    *,
    order: str | None,
    results: str | Path | None,
    use: Use | None,
    with_menu: bool,
    on_note: Callable[[str], None],
) -> Choice:
    """Return the model that a user asked for.

    Args:
        order, results: as for ``patch``.
        with_menu: look at all sizes, even if one is named outright.
        on_note: told what is taken from a sweep, or why nothing is.

    Raises:
        SelectionError: a size or an order that the pair does not have, bounds that no size keeps or that need scores.
        CheckpointError, HubError: scores that cannot be read.
    """
    pair = planner.pair
    swept = known_scores(pair, order, results, on_note)
    found = swept.order(order, pair) if swept else _plain_order(order, pair)
    blocks = selection.outright(found, pair.layer_map)
    named: str | None = found.name
    menu: tuple[MenuRow, ...] = ()
    if blocks is None or with_menu:
        from boomerang_cli.engine.evaluation.menu import make_menu

        orders = [found] if swept is None or order is not None else list(swept.orders.values())
        menu = make_menu(planner, orders, swept, use, selection.bounds, blocks)
        blocks, named = next((row.patched_blocks, row.order) for row in menu if row.chosen)
        found = next((each for each in orders if each.name == named), found)
    if selection.blocks is not None:
        named = None
    elif swept and named:
        on_note(swept.told(blocks, named))
    return Choice(blocks, found, named, swept.scores(blocks) if swept else {}, menu)


def _plain_order(order: str | None, pair: Pair) -> Order:
    return find_order(order or "auto", pair.layer_map, pair.student_config.order, pair.family.order)
