"""The orders that a sweep compares: by name at once, or searched for on the loaded pair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from boomerang_cli.engine.pair.order import NAMED, SEARCHED, Order, find_order
from boomerang_cli.engine.pair.pair import Pair

if TYPE_CHECKING:
    from boomerang_cli.engine.evaluation.evaluation import Evaluation


def split_names(given: Iterable[str]) -> list[str]:
    """Return the names of orders, each once; a value may hold several, as ``a,b``."""
    return list(dict.fromkeys(name.strip() for value in given for name in value.split(",")))


def foreseen_orders(names: Iterable[str], pair: Pair) -> list[Order]:
    """Return the orders before any search; one that is searched has the sizes of the student's own order.

    Raises:
        SelectionError: neither an order's name nor an order file of this student.
    """
    return _distinct(_named_order(name, pair) for name in names)


def find_orders(names: Sequence[str], pair: Pair, evaluation: Evaluation, *, beam: int, yes: bool) -> list[Order]:
    """Return the orders, those searched that have to be (arguments and errors as in ``search.search_orders``)."""
    searched = [name for name in names if name in SEARCHED]
    if not searched:
        return foreseen_orders(names, pair)
    from boomerang_cli.engine.evaluation.search import search_orders

    assert evaluation.calibration is not None
    found = search_orders(searched, pair.layer_map.patchable, evaluation, evaluation.calibration, beam=beam, yes=yes)
    return _distinct(found.get(name) or _named_order(name, pair) for name in names)


def _named_order(name: str, pair: Pair) -> Order:
    given = "auto" if name in SEARCHED else name
    order = find_order(given, pair.layer_map, pair.student_config.order, pair.family.order, names=(*NAMED, *SEARCHED))
    return replace(order, name=name) if name in SEARCHED else order


def _distinct(orders: Iterable[Order]) -> list[Order]:
    """Leave out orders that are named twice, and number different ones of one name."""
    distinct: list[Order] = []
    for order in orders:
        if order in distinct:
            continue
        same_name = sum(other.name == order.name for other in distinct)
        distinct.append(replace(order, name=f"{order.name}-{same_name + 1}") if same_name else order)
    return distinct
