"""What memory a model takes where it runs: its weights, the cache of what it reads, and a reserve."""

from __future__ import annotations

import math
from dataclasses import dataclass

from boomerang_cli.engine.checkpoint.cache_size import cache_bytes, positions_of
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.output.plan import Plan
from boomerang_cli.engine.pair.bounds import Use

DEFAULT_CONTEXT = 4096
"""Tokens; fewer of a model that has positions for fewer."""
RESERVE = 0.1
"""Of all memory, for activations, logits and the runtime itself: what vLLM leaves by default (0.9 of a GPU is used)."""
_DTYPE_BYTES = {"float32": 4}
"""Of a number in a cache; 2 of the others, and of a quantised model, which computes in 16 bits."""


@dataclass(frozen=True)
class Memory:
    """What a model takes where it runs.

    Attributes:
        context: tokens of each sequence.
        batch: sequences.
        weights_bytes: of all parameters, experts that a token is not routed to included.
        cache_bytes: of all sequences at their full length.
        reserve_bytes: a tenth of the whole.
        needed_bytes: the whole.
    """

    context: int
    batch: int
    weights_bytes: int
    cache_bytes: int
    reserve_bytes: int
    needed_bytes: int


def memory_of(plan: Plan, family: Family, use: Use, name: str) -> Memory:
    """Return what the model of a plan takes: ``(weights + cache) / (1 - RESERVE)``.

    Weights are the bytes of the plan, or ``parameters * weights_bits / 8``; the cache is ``cache_size.cache_bytes``.

    Args:
        name: the teacher's, for errors.

    Raises:
        SelectionError: more tokens than the model has positions for.
        UnsupportedModelError: a type whose cache is not known.
    """
    positions = positions_of(plan.config, family, name) or DEFAULT_CONTEXT
    context, bits = use.context or min(DEFAULT_CONTEXT, positions), use.weights_bits
    weights = plan.size_bytes if bits is None else math.ceil(plan.parameters * bits / 8)
    dtype_bytes = _DTYPE_BYTES.get(plan.dtype, 2) if bits is None else 2
    cache = cache_bytes(plan.config, family, context=context, batch=use.batch, dtype_bytes=dtype_bytes, name=name)
    reserve = math.ceil((weights + cache) * RESERVE / (1 - RESERVE))
    return Memory(context, use.batch, weights, cache, reserve, weights + cache + reserve)
