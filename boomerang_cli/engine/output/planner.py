"""Plans any model of one pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from boomerang_cli.engine.checkpoint.dtypes import stored_dtype
from boomerang_cli.engine.checkpoint.parts import around_layers
from boomerang_cli.engine.checkpoint.tensors import DTYPE_BYTES, Tensor
from boomerang_cli.engine.output.plan import Plan, output_dtype, plan_model
from boomerang_cli.engine.output.shared_ends import SharedEnds
from boomerang_cli.engine.pair.layers import Owner
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.sizes import parse_bytes


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
        self._ends = SharedEnds(pair)
        self._dtype = stored_dtype(dtype)
        if dtype == "auto" and pair.student.main_dtype != pair.teacher.main_dtype:
            self._dtype = "BF16"
        self._max_shard_bytes = parse_bytes(max_shard_size, "--max-shard-size")
        self._around: dict[tuple[Owner, Owner], Weight] = {}
        self._layers: dict[tuple[Owner, int], Weight] = {}

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

    def weigh(self, blocks: Sequence[int]) -> Weight:
        """Return parameters and bytes of the same model, at a fraction of a plan's cost where sizes are many."""
        sources = self.pair.layer_map.sources(blocks)
        owners = self._ends.owners(sources)
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
