"""Which steps train a model in between, and which one: from seed and step alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from tiny_models import KEPT, LAYERS

from boomerang_cli.engine.distillation.patched_steps import PatchedSteps
from boomerang_cli.engine.errors import TrainingError
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.order import Order

LAYER_MAP = LayerMap(LAYERS, KEPT)
LAST = Order.of_sequence("last", LAYER_MAP.order("last"))
STEPS = PatchedSteps(LAYER_MAP, LAST, share=0.5, seed=0, steps=4000)


def drawn(steps: PatchedSteps) -> list[tuple[int, ...]]:
    return [steps.blocks(step) for step in range(steps.steps)]


def test_the_share_of_the_steps_is_patched_and_never_the_first() -> None:
    sets = drawn(STEPS)
    assert sum(map(bool, sets)) / len(sets) == pytest.approx(0.5, abs=0.03)
    assert all(replace(STEPS, share=1.0, seed=seed).blocks(0) == () for seed in range(50))


@pytest.mark.parametrize(("share", "patched"), [(0.0, 0), (1.0, 3999)])
def test_none_and_all_are_exact(share: float, patched: int) -> None:
    assert sum(map(bool, drawn(replace(STEPS, share=share)))) == patched


def test_every_size_in_between_is_as_frequent_and_neither_end_is_drawn() -> None:
    sizes = Counter(map(len, filter(None, drawn(STEPS))))
    assert sizes.keys() == {1, 2}
    assert sizes[1] / sizes.total() == pytest.approx(0.5, abs=0.05)


def test_half_of_the_sets_are_the_pairs_own_order_and_half_any() -> None:
    pairs = [blocks for blocks in drawn(STEPS) if len(blocks) == 2]
    counts = {blocks: count / len(pairs) for blocks, count in Counter(pairs).items()}
    assert counts == pytest.approx({(1, 3): 2 / 3, (0, 1): 1 / 6, (0, 3): 1 / 6}, abs=0.06)


@pytest.mark.parametrize(("order", "sets"), [("last", {(3,), (1, 3)}), ("first", {(0,), (0, 1)})])
def test_sets_of_the_order_alone_are_its_own(order: str, sets: set[tuple[int, ...]]) -> None:
    steps = replace(STEPS, order=Order.of_sequence(order, LAYER_MAP.order(order)), sampling="order")
    assert set(filter(None, drawn(steps))) == sets


def test_random_sets_are_all_there_are() -> None:
    sets = set(filter(None, drawn(replace(STEPS, sampling="random"))))
    assert sets == {(0,), (1,), (3,), (0, 1), (0, 3), (1, 3)}


@pytest.mark.parametrize(("schedule", "begin", "end"), [("rising", 0.0625, 0.4375), ("falling", 0.4375, 0.0625)])
def test_a_share_rises_from_nothing_or_falls_to_it(schedule: str, begin: float, end: float) -> None:
    sets = drawn(replace(STEPS, schedule=schedule))
    quarters = [sum(map(bool, sets[start : start + 1000])) / 1000 for start in (0, 3000)]
    assert quarters == pytest.approx([begin, end], abs=0.05)


def test_the_last_step_has_all_of_a_rising_share_and_nothing_of_a_falling_one() -> None:
    last = [replace(STEPS, share=1.0, steps=3, seed=seed) for seed in range(50)]
    assert all(replace(each, schedule="rising").blocks(2) for each in last)
    assert not any(replace(each, schedule="falling").blocks(2) for each in last)


def test_draws_are_the_same_for_ever() -> None:
    begun = [(), (1, 3), (), (), (), (), (3,), (), (3,), (1, 3), (1, 3), ()]
    assert [STEPS.blocks(step) for step in range(12)] == begun
    assert drawn(replace(STEPS, seed=1)) != drawn(STEPS)


def test_the_heaviest_step_sends_gradients_through_all_but_the_first_block() -> None:
    assert STEPS.heaviest == (1, 3)
    assert replace(STEPS, share=0.0).heaviest == ()


def test_a_pair_without_a_size_in_between_is_refused() -> None:
    small = LayerMap(3, (0, 2))
    with pytest.raises(TrainingError, match=r"--patched-share 0\.5: for want of a second patchable block, .*share 0$"):
        PatchedSteps(small, Order.of_sequence("last", (0,)), share=0.5, seed=0, steps=1)
    assert PatchedSteps(small, Order.of_sequence("last", (0,)), share=0.0, seed=0, steps=1).blocks(0) == ()
