"""Work in pieces: each is done in one of the processes, and all of them know what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from boomerang_cli.engine.processes.group import all_values, processes, rank

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(items: Iterable[Item], work: Callable[[Item], Result]) -> Iterator[tuple[Item, Result]]:
    """Do each of the items in one of the processes, and yield it with what came out, in order, in all of them.

    They go in rounds of one item a process, so that what is known is known at once, and the same, everywhere: the next
    items are asked for when a round is over. Several processes do not meet again if one fails; see
    ``failing_together``.

    Args:
        items: the same in every process.
        work: what it returns can be pickled.
    """
    left = iter(items)
    while begun := list(islice(left, processes())):
        mine = [work(begun[rank()])] if rank() < len(begun) else []
        found = [result for results in all_values(mine) for result in results]
        yield from zip(begun, found, strict=True)
