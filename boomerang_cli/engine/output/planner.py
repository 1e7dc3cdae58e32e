"""Plans any model of one pair."""

from __future__ import annotations

from collections.abc import Sequence

from boomerang_cli.engine.checkpoint.dtypes import stored_dtype
from boomerang_cli.engine.output.plan import Plan, plan_model
from boomerang_cli.engine.output.shared_ends import SharedEnds
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.sizes import parse_bytes


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
