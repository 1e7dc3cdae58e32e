"""What is read ahead: one item, in order, with its errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from boomerang_cli.engine.distillation.read_ahead import read_ahead
from boomerang_cli.engine.errors import DataError


def test_the_next_item_is_made_while_one_is_used_and_no_more() -> None:
    made = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    ahead = read_ahead(items())
    assert next(ahead) == 0
    assert made[1].wait(5)
    assert not made[2].is_set()
    assert [*ahead] == [1, 2, 3]


def test_an_error_comes_behind_what_was_made_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise DataError("broken")

    ahead = read_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(DataError, match="broken"):
        next(ahead)
