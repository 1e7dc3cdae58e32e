"""Plans any model of one pair, and finds the one that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from boomerang_cli.engine.checkpoint.dtypes import stored_dtype
from boomerang_cli.engine.checkpoint.parts import around_layers
from boomerang_cli.engine.checkpoint.tensors import DTYPE_BYTES, Tensor
from boomerang_cli.engine.errors import SelectionError
from boomerang_cli.engine.output.plan import Plan, output_dtype, plan_model
from boomerang_cli.engine.pair.layers import Owner
from boomerang_cli.engine.pair.order import Order
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.pair.selection import Selection
from boomerang_cli.engine.sizes import parse_bytes, parse_count, show_bytes, show_count


class Weight(NamedTuple):
    """What a model, or a part of it, weighs."""

    parameters: int
    bytes: int


class Planner:
    """Plans any model of one pair.

    Args:
        dtype: of the output (see :func:`patch`).

    Raises:
        SelectionError: an unknown dtype or shard size.
    """

    def __init__(self, pair: Pair, *, dtype: str = "auto", max_shard_size: str = "5GB") -> None:
        self.pair = pair
        self._dtype = stored_dtype(dtype)
        if dtype == "auto" and pair.student.main_dtype != pair.teacher.main_dtype:
            self._dtype = "BF16"
        self._max_shard_bytes = parse_bytes(max_shard_size, "--max-shard-size")
        self._around: dict[tuple[Owner, Owner], Weight] = {}
        self._layers: dict[tuple[Owner, int], Weight] = {}

    def plan(self, blocks: Sequence[int]) -> Plan:
        """Return the plan of the model in which ``blocks`` are the teacher's."""
        return plan_model(
            self.pair.layer_map.sources(blocks),
            teacher=self.pair.teacher,
            family=self.pair.family,
            parts=self.pair.parts,
            dtype=self._dtype,
            max_shard_bytes=self._max_shard_bytes,
        )

    def weigh(self, blocks: Sequence[int]) -> Weight:
        """Return parameters and bytes of the same model, at a fraction of a plan's cost where sizes are many."""
        sources = self.pair.layer_map.sources(blocks)
        owners = sources[0].owner, sources[-1].owner
        if owners not in self._around:
            first, last = (self.pair.parts[owner] for owner in owners)
            before, after, _ = around_layers(first, last, self.pair.family)
            self._around[owners] = self._weight({**before, **after})
        weights = [self._around[owners], *(self._layer(source.owner, source.index) for source in sources)]
        return Weight(sum(each.parameters for each in weights), sum(each.bytes for each in weights))

    def _layer(self, owner: Owner, index: int) -> Weight:
        if (owner, index) not in self._layers:
            layer = self.pair.parts[owner].layers[index].items()
            path = f"{self.pair.family.layers}{index}."
            self._layers[owner, index] = self._weight({path + name: tensor for name, tensor in layer})
        return self._layers[owner, index]

    def _weight(self, tensors: Mapping[str, Tensor]) -> Weight:
        stored = [
            DTYPE_BYTES[output_dtype(name, tensor, self._dtype, self.pair.family)] for name, tensor in tensors.items()
        ]
        counts = [tensor.parameters for tensor in tensors.values()]
        return Weight(sum(counts), sum(count * each for count, each in zip(counts, stored, strict=True)))


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
