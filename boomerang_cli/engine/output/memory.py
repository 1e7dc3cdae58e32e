"""What memory a model takes where it runs: its weights, the cache of what it reads, and a reserve."""

from __future__ import annotations

import math
from dataclasses import dataclass

from boomerang_cli.engine.checkpoint.cache_size import cache_bytes
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.output.plan import Plan
from boomerang_cli.engine.pair.bounds import Use

RESERVE = 0.1
"""Of all memory, for activations, logits and the runtime itself: what vLLM leaves by default (0.9 of a GPU is used)."""
_DTYPE_BYTES = {"float32": 4}
"""Of a number in a cache; 2 of the others, and of a quantised model, which computes in 16 bits."""


@dataclass(frozen=True)
class Memory:
    """What a model takes.

    Attributes:
        weights_bytes: of all parameters, experts that a token is not routed to included.
        cache_bytes: of all sequences at their full length.
        reserve_bytes: a tenth of the whole.
    """

    weights_bytes: int
    cache_bytes: int
    reserve_bytes: int

    @property
    def needed_bytes(self) -> int:
        return self.weights_bytes + self.cache_bytes + self.reserve_bytes


def memory_of(plan: Plan, family: Family, use: Use, name: str) -> Memory:
    """Return what the model of a plan takes: ``(weights + cache) / (1 - RESERVE)``.

    Weights are the bytes of the plan, or ``parameters * weights_bits / 8``; the cache is ``cache_size.cache_bytes``.

    Args:
        name: the teacher's, for errors.

    Raises:
        SelectionError: more tokens than the model has positions for.
        UnsupportedModelError: a type whose cache is not known.
    """
    bits = use.weights_bits
    weights = plan.size_bytes if bits is None else math.ceil(plan.parameters * bits / 8)
    dtype_bytes = _DTYPE_BYTES.get(plan.dtype, 2) if bits is None else 2
    cache = cache_bytes(plan.config, family, context=use.context, batch=use.batch, dtype_bytes=dtype_bytes, name=name)
    return Memory(weights, cache, math.ceil((weights + cache) * RESERVE / (1 - RESERVE)))
