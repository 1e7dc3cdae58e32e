"""The search for good orders: which set of blocks of each size comes closest to the teacher.

Pure search: how a set is scored is the caller's business, and so is what sets scored together may share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, combinations

from boomerang_cli.engine.pair.order import Order

Blocks = tuple[int, ...]
"""A set of blocks, ascending."""
Distances = Mapping[Blocks, float]
Score = Callable[[Sequence[Blocks]], Distances]
"""Returns the distance of each set's model from the teacher; sets given together are scored together."""


def greedy(blocks: Sequence[int], score: Score, *, beam: int = 1) -> Order:
    """Patch one block after another, each time the one that brings the model closest to the teacher.

    With ``beam`` 1 this is KLPatch (arXiv 2607.08170): n(n+1)/2 sets are scored, those of one size together. A wider
    beam goes on from so many of the best sets of each size; then the best sets need not be nested.
    """
    sets: list[Blocks] = [()]
    kept: list[Blocks] = [()]
    for _ in blocks:
        candidates = sorted({tuple(sorted({*each, block})) for each in kept for block in blocks if block not in each})
        distances = score(candidates)
        kept = sorted(candidates, key=lambda candidate: (distances[candidate], candidate))[:beam]
        sets.append(kept[0])
    return Order("greedy", tuple(sets))


def exact(blocks: Sequence[int], distances: Distances) -> Order:
    """Return the closest set of each size; ``distances`` must hold every subset of ``blocks``."""
    sets = (
        min(combinations(blocks, size), key=lambda candidate: (distances[candidate], candidate))
        for size in range(len(blocks) + 1)
    )
    return Order("exact", tuple(sets))


def nested(blocks: Sequence[int], distances: Distances) -> Order:
    """Return the sequence of blocks whose sizes are closest in sum: a shortest path in the lattice of subsets.

    A step from a set to one with a block more costs the distance of the larger one.
    """
    cost: dict[Blocks, float] = {(): 0.0}
    before: dict[Blocks, Blocks] = {}
    for candidate in every_subset(blocks)[1:]:  # smaller ones come first
        steps = [tuple(block for block in candidate if block != added) for added in candidate]
        before[candidate] = min(steps, key=lambda step: (cost[step], step))
        cost[candidate] = cost[before[candidate]] + distances[candidate]
    path = [tuple(blocks)]
    while path[-1]:
        path.append(before[path[-1]])
    return Order("nested", tuple(reversed(path)))


def every_subset(blocks: Sequence[int]) -> list[Blocks]:
    """Return all sets of blocks, smaller ones first."""
    return list(chain.from_iterable(combinations(blocks, size) for size in range(len(blocks) + 1)))
