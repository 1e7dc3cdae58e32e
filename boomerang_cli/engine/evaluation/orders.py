"""The search for good orders: which set of blocks of each size comes closest to the teacher.

Pure search: how a set is scored is the caller's business, and so is what sets scored together may share.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, combinations
from typing import Protocol

from boomerang_cli.engine.pair.order import Order

Blocks = tuple[int, ...]
"""A set of blocks, ascending."""
Score = Callable[[Sequence[Blocks]], Mapping[Blocks, float]]
"""Returns the distance of each set's model from the teacher; sets given together are scored together."""


class Distances(Protocol):
    """How far each set's model is from the teacher; infinity where it is known to be no candidate."""

    def __getitem__(self, blocks: Blocks, /) -> float: ...


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
    """Return the closest set of each size; of sets that are as close as one another, the first."""
    sets = (
        min(combinations(blocks, size), key=lambda candidate: (distances[candidate], candidate))
        for size in range(len(blocks) + 1)
    )
    return Order("exact", tuple(sets))


def nested(blocks: Sequence[int], distances: Distances) -> Order:
    """Return the sequence of blocks whose sizes are closest in sum: a shortest path in the lattice of subsets.

    A step from a set to one with a block more costs the distance of the larger one. 8 bytes a set.
    """
    blocks = tuple(blocks)
    bits = {block: 1 << position for position, block in enumerate(blocks)}
    costs = array("d", [0.0]) * 2 ** len(blocks)
    for number in range(1, len(costs)):  # a set's number is larger than those of the sets in it
        candidate = tuple(block for block in blocks if number & bits[block])
        costs[number] = min(costs[number ^ bits[block]] for block in candidate) + distances[candidate]

    path = [blocks]
    while path[-1]:
        steps = [tuple(block for block in path[-1] if block != added) for added in path[-1]]
        path.append(min(steps, key=lambda step: (costs[sum(bits[block] for block in step)], step)))
    return Order("nested", tuple(reversed(path)))


def every_subset(blocks: Sequence[int]) -> list[Blocks]:
    """Return all sets of blocks, smaller ones first."""
    return list(chain.from_iterable(combinations(blocks, size) for size in range(len(blocks) + 1)))
