"""Plans any model of one pair, and finds the one that was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from boomerang_cli.engine.checkpoint.dtypes import stored_dtype
from boomerang_cli.engine.errors import SelectionError
from boomerang_cli.engine.output.plan import Plan, plan_model
from boomerang_cli.engine.output.shared_ends import SharedEnds
from boomerang_cli.engine.pair.order import Order
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.pair.selection import Selection
from boomerang_cli.engine.sizes import parse_bytes, parse_count, show_bytes, show_count


class Planner:
    """Plans any model of one pair.

    Args:
        dtype: of the output (see :func:`patch`).

    Raises:
        SelectionError: an unknown dtype or shard size.
    """

    def __init__(self, pair: Pair, *, dtype: str = "auto", max_shard_size: str = "5GB") -> None:
        self.pair = pair
        self._ends = SharedEnds(pair)
        self._dtype = stored_dtype(dtype)
        if dtype == "auto" and pair.student.main_dtype != pair.teacher.main_dtype:
            self._dtype = "BF16"
        self._max_shard_bytes = parse_bytes(max_shard_size, "--max-shard-size")

    def plan(self, blocks: Sequence[int]) -> Plan:
        """Return the plan of the model in which ``blocks`` are the teacher's."""
        sources = self.pair.layer_map.sources(blocks)
        return plan_model(
            sources,
            teacher=self.pair.teacher,
            family=self.pair.family,
            parts=self.pair.parts,
            dtype=self._dtype,
            max_shard_bytes=self._max_shard_bytes,
            ends=self._ends.owners(sources),
        )


def choose_blocks(selection: Selection, planner: Planner, order: Order) -> tuple[int, ...]:
    """Return the blocks to patch, ascending.

    Raises:
        SelectionError: the pair has no such model; says which it has.
    """
    layer_map = planner.pair.layer_map
    if selection.blocks is not None:
        return layer_map.check_blocks(selection.blocks)
    if selection.layers is not None:
        return order.blocks(selection.layers)
    if selection.depth is not None:
        depths = {len(layer_map.sources(blocks)): blocks for blocks in reversed(order.sets)}
        if selection.depth not in depths:
            listed = ", ".join(map(str, sorted(depths)))
            raise SelectionError(f"--depth {selection.depth} is no size of this pair: it has {listed} layers")
        return depths[selection.depth]
    if selection.params is not None:
        flag, limit = f"--params {selection.params}", parse_count(selection.params, "--params")
        sizes = {blocks: planner.plan(blocks).parameters for blocks in order.sets}
        smallest = show_count(min(sizes.values()))
    else:
        assert selection.size is not None
        flag, limit = f"--size {selection.size}", parse_bytes(selection.size, "--size")
        sizes = {blocks: planner.plan(blocks).size_bytes for blocks in order.sets}
        smallest = show_bytes(min(sizes.values()))
    fitting = {blocks: size for blocks, size in sizes.items() if size <= limit}
    if not fitting:
        raise SelectionError(f"{flag} is below the smallest size of this pair, {smallest}")
    return max(fitting, key=lambda blocks: fitting[blocks])
