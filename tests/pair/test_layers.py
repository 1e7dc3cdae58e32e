"""Which layers are kept, and who owns each layer of a patched model: pure integers."""

from __future__ import annotations

import pytest

from boomerang_cli.engine.errors import SelectionError
from boomerang_cli.engine.pair.layers import LayerMap, default_kept_layers

SMALL = LayerMap(8, (0, 2, 4, 5, 7))  # blocks 01 23 4 56 7


def owners(layer_map: LayerMap, *patched: int) -> str:
    return "".join(f"{source.owner[0]}{source.index} " for source in layer_map.sources(patched)).strip()


def test_rule_keeps_every_second_layer_and_the_last() -> None:
    assert default_kept_layers(32) == (*range(0, 32, 2), 31)


def test_llamas_rule_keeps_the_first_two_layers() -> None:
    assert default_kept_layers(28, keep_first=2, keep_last=1) == (0, *range(1, 28, 2))


@pytest.mark.parametrize(
    ("depth", "keep_first", "keep_last", "students", "n"),
    [(36, 1, 2, 19, 17), (32, 1, 2, 17, 15), (28, 2, 1, 15, 13)],
    ids=["Qwen3", "Pythia", "Llama"],
)
def test_published_depths_give_the_published_students(
    depth: int, keep_first: int, keep_last: int, students: int, n: int
) -> None:
    layer_map = LayerMap(depth, default_kept_layers(depth, keep_first=keep_first, keep_last=keep_last))
    assert (layer_map.student_layers, len(layer_map.patchable)) == (students, n)


def test_every_third_layer_leaves_blocks_of_three() -> None:
    layer_map = LayerMap(12, default_kept_layers(12, every=3))
    assert [len(block) for block in layer_map.blocks] == [3, 3, 3, 1, 1, 1]


@pytest.mark.parametrize(("every", "first", "last"), [(1, 1, 2), (2, 0, 2), (2, 1, 0)])
def test_rules_that_make_no_sense_are_refused(every: int, first: int, last: int) -> None:
    with pytest.raises(SelectionError, match=r"--every 1|--keep-(first|last) 0"):
        default_kept_layers(8, every=every, keep_first=first, keep_last=last)


@pytest.mark.parametrize("kept", [(), (1, 2), (0, 2, 2), (0, 3, 2), (0, 8)])
def test_kept_layers_that_are_no_student_are_refused(kept: tuple[int, ...]) -> None:
    with pytest.raises(SelectionError, match="kept layer"):
        LayerMap(8, kept)


def test_blocks_are_the_layers_that_a_student_layer_stands_for() -> None:
    assert SMALL.blocks == (range(2), range(2, 4), range(4, 5), range(5, 7), range(7, 8))
    assert SMALL.patchable == (0, 1, 3)
    assert SMALL.pruned == (1, 3, 6)


def test_patching_nothing_is_the_student() -> None:
    assert owners(SMALL) == "s0 s1 s2 s3 s4"


def test_patching_everything_is_the_teacher() -> None:
    assert owners(SMALL, 0, 1, 3) == "t0 t1 t2 t3 t4 t5 t6 t7"


def test_a_one_layer_block_is_the_teachers_beside_a_patched_block() -> None:
    assert owners(SMALL, 1) == "s0 t2 t3 t4 s3 s4"
    assert owners(SMALL, 3) == "s0 s1 t4 t5 t6 t7"


def test_a_one_layer_block_is_the_students_away_from_patched_blocks() -> None:
    assert owners(SMALL, 0) == "t0 t1 s1 s2 s3 s4"


def test_a_student_that_dropped_nothing_stays_the_student() -> None:
    assert owners(LayerMap(2, (0, 1))) == "s0 s1"


def test_aligned_states_pair_each_student_state_with_the_end_of_its_block() -> None:
    assert SMALL.aligned_states == ((0, 0), (1, 2), (2, 4), (3, 5), (4, 7), (-1, -1))


def test_orders_by_name_run_from_either_end() -> None:
    assert SMALL.order("first") == (0, 1, 3)
    assert SMALL.order("last") == (3, 1, 0)


@pytest.mark.parametrize("order", ["middle", [0, 1], [0, 1, 2], [0, 1, 3, 3]])
def test_orders_that_are_no_permutation_are_refused(order: str | list[int]) -> None:
    with pytest.raises(SelectionError, match="order"):
        SMALL.order(order)


@pytest.mark.parametrize("blocks", [(2,), (9,), (0, 0)])
def test_blocks_that_cannot_be_patched_are_refused(blocks: tuple[int, ...]) -> None:
    with pytest.raises(SelectionError, match="block"):
        SMALL.sources(blocks)
