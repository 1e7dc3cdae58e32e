"""Students that keep their teacher's period: in each of their sizes, whichever blocks are patched."""

from __future__ import annotations

from itertools import chain, combinations

import pytest

from boomerang_cli.engine.pair.layer_mix import period_of
from boomerang_cli.engine.pair.layers import LayerMap, default_kept_layers


@pytest.mark.parametrize(("depth", "period"), [(18, 6), (26, 6), (34, 6), (36, 4), (24, 2), (62, 6)])
@pytest.mark.parametrize("every", [2, 3])
def test_every_set_of_blocks_keeps_the_period(depth: int, period: int, every: int) -> None:
    layer_map = LayerMap(depth, default_kept_layers(depth, every=every, period=period))
    n = len(layer_map.patchable)
    for blocks in chain.from_iterable(combinations(layer_map.patchable, k) for k in range(n + 1)):
        layers = [source.teacher_layer for source in layer_map.sources(blocks)]
        assert [layer % period for layer in layers] == [index % period for index in range(len(layers))]


def test_half_of_the_layers_go_in_whole_periods() -> None:
    assert default_kept_layers(26, period=6) == (0, *range(7, 13), *range(19, 26))


@pytest.mark.parametrize(
    ("kinds", "period"),
    [("sssssf" * 3, 6), ("sssssfsssssfss", 6), ("sf" * 4, 2), ("ssss", 1), ("dddmmm", 1), ("s", 1)],
)
def test_a_period_is_found_where_it_is_seen_whole_twice(kinds: str, period: int) -> None:
    assert period_of(kinds) == period
