"""The next item of a stream, made while the one before it is used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def read_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield ``items``, which a thread makes, one of them ahead; what it raises is raised here in its turn.

    For large items: a loading process is asked for a step's sequences only when the step is about to begin, and would
    have its tokens to make while the models wait.
    """
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, items, None)
        while (item := following.result()) is not None:
            following = reader.submit(next, items, None)
            yield item
