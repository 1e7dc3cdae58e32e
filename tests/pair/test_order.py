"""Orders by name, as a student records them, and from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from boomerang_cli.engine.errors import SelectionError
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.order import Order, find_order

LAYERS = LayerMap(8, (0, 2, 4, 5, 7))  # patchable: 0, 1, 3


def order_file(folder: Path, content: Any) -> str:
    path = folder / "order.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_sets_of_a_sequence_grow_by_one_block() -> None:
    assert find_order("last", LAYERS, None, "first").sets == ((), (3,), (1, 3), (0, 1, 3))


def test_auto_is_what_the_student_records() -> None:
    assert find_order("auto", LAYERS, (1, 3, 0), "last").sequence == (1, 3, 0)


def test_auto_is_the_familys_order_where_nothing_is_recorded() -> None:
    assert find_order("auto", LAYERS, None, "first").sequence == (0, 1, 3)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    exact = Order("exact", ((), (0,), (1, 3), (0, 1, 3)))
    path = order_file(tmp_path, exact.as_json(LAYERS))
    assert find_order(path, LAYERS, None, "last") == exact


def test_sets_that_are_not_nested_have_no_sequence() -> None:
    assert Order("exact", ((), (0,), (1, 3), (0, 1, 3))).sequence is None


def test_a_file_may_hold_a_plain_list(tmp_path: Path) -> None:
    assert find_order(order_file(tmp_path, [1, 0, 3]), LAYERS, None, "last").blocks(2) == (0, 1)


@pytest.mark.parametrize("k", [-1, 4])
def test_k_out_of_range_is_refused_with_the_range(k: int) -> None:
    with pytest.raises(SelectionError, match=rf"--layers {k} is out of range.*3 patchable blocks, give 0 to 3"):
        find_order("last", LAYERS, None, "last").blocks(k)


def test_a_student_with_all_layers_has_no_size_to_ask_for() -> None:
    with pytest.raises(SelectionError, match="--layers 1: the student has all layers of its teacher, and no block to"):
        find_order("last", LayerMap(3, (0, 1, 2)), None, "last").blocks(1)


def test_an_order_of_another_student_is_refused(tmp_path: Path) -> None:
    other = Order("last", ((), (0,))).as_json(LayerMap(3, (0, 2)))
    with pytest.raises(SelectionError, match=r"for another student: it keeps \[0, 2\] of 3 layers"):
        find_order(order_file(tmp_path, other), LAYERS, None, "last")


@pytest.mark.parametrize(
    "content",
    [
        "last",
        3,
        {},
        {"patched_blocks": 1},
        {"patched_blocks": [[]]},
        [0, 1],
        [0, 1, True],
        {"patched_blocks": [[], [2], [0, 1], [0, 1, 3]]},
    ],
)
def test_a_file_that_is_no_order_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(SelectionError):
        find_order(order_file(tmp_path, content), LAYERS, None, "last")


def test_a_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    path.write_bytes(b"\xff[")
    with pytest.raises(SelectionError, match=r"order\.json is not JSON"):
        find_order(str(path), LAYERS, None, "last")


def test_a_name_that_is_no_file_is_refused() -> None:
    with pytest.raises(SelectionError, match="--order middle is neither auto, first, last nor a file"):
        find_order("middle", LAYERS, None, "last")
