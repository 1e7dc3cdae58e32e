"""Which layers a student keeps of a teacher whose layers differ in kind: the paper's rule, with the teacher's mix.

Pure integers: what makes two layers of one kind is ``checkpoint/layer_kinds.py``'s to say.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from boomerang_cli.engine.pair.layers import LayerMap, default_kept_layers

_MOST_COUNTS = 400
"""Counts of a kind compared a block. Two kinds of 190 layers need fewer, and are solved exactly. Beyond, walks furthest
from the teacher's mix are given up first: 88 real and random schedules of 2 to 5 kinds came out as with 6000."""


@dataclass(frozen=True)
class LayerKind:
    """How many layers of one kind a teacher has, and how many of them its student keeps."""

    name: str
    teacher_layers: int
    student_layers: int


def layers_in_mix(
    kinds: Sequence[Hashable], *, every: int = 2, keep_first: int = 1, keep_last: int = 2
) -> tuple[int, ...]:
    """Return the teacher layers that a student keeps, ascending.

    The student keeps one layer of each block of the paper's rule (``default_kept_layers``, FACTS.md 1): its first, as
    the paper does, where all layers are of one kind. Where they are of several, it keeps those layers, at most
    ``every + 1`` apart, that give each kind the share that it has in the teacher: no kind lost, nearest in number over
    all layers, then within one layer of it at every depth, then with the fewest blocks longer or shorter than the
    paper's, then most evenly.

    So depth and both ends are always the paper's. A kind is lost only where no such choice holds all of them: one that
    stands in layer 1 alone, say. Every second layer of gemma3 (five sliding, one full) would slide.

    Args:
        kinds: the kind of each teacher layer.
        every, keep_first, keep_last: the paper's rule's numbers.

    Raises:
        SelectionError: as ``default_kept_layers``.
    """
    paper = default_kept_layers(len(kinds), every=every, keep_first=keep_first, keep_last=keep_last)
    numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
    if len(numbers) < 2:
        return paper
    kind_of = [numbers[kind] for kind in kinds]
    walks = {(-1, (0,) * len(numbers)): _Walk(0, 0, 0, ())}
    target = [0] * len(numbers)
    for block in LayerMap(len(kinds), paper).blocks:
        for layer in block:  # a block gives one layer, in equal parts to the kinds of its layers; counted in 1/every
            target[kind_of[layer]] += every // len(block)
        choices = block if block.start >= keep_first else block[:1]
        walks = _nearest(_walk_on(walks, choices, kind_of, target, every), target, every)

    shares = [kind_of.count(number) * len(paper) for number in range(len(numbers))]  # in 1 / len(kinds) of a layer

    def distance(reached: tuple[tuple[int, tuple[int, ...]], _Walk]) -> tuple[int, int, _Walk]:
        (_, counts), walk = reached
        off = sum(abs(count * len(kinds) - share) for count, share in zip(counts, shares, strict=True))
        return counts.count(0), off, walk

    return min(walks.items(), key=distance)[1].kept


def period_of(kinds: Sequence[Hashable]) -> int:
    """Return after how many layers a teacher's kinds repeat, at least once in whole; 1 if they do not, or are alike."""
    return next((each for each in range(1, len(kinds) // 2 + 1) if kinds[each:] == kinds[:-each]), 1)


def mix_of(kinds: Sequence[str], kept: Collection[int]) -> tuple[LayerKind, ...]:
    """Count the kinds of a teacher's layers, in the order in which they first appear; empty if there is only one."""
    names = list(dict.fromkeys(kinds))
    if len(names) < 2:
        return ()
    held = [kinds[layer] for layer in kept]
    return tuple(LayerKind(name, kinds.count(name), held.count(name)) for name in names)


class _Walk(NamedTuple):
    """A choice of layers from the first blocks; of two that end alike, the smaller is the better.

    Attributes:
        beyond: by how much kinds were more than one layer away from their target, summed over the blocks.
        shifts: the number of blocks that are longer or shorter than the paper's.
        unevenness: how far kinds were from their targets, summed over the blocks.
    """

    beyond: int
    shifts: int
    unevenness: int
    kept: tuple[int, ...]


_Walks = dict[tuple[int, tuple[int, ...]], _Walk]
"""The best walk by what the rest depends on: the last kept layer, and how many layers of each kind are kept."""


def _walk_on(
    walks: _Walks, choices: Sequence[int], kind_of: Sequence[int], target: Sequence[int], every: int
) -> _Walks:
    """Let each walk keep one of ``choices`` more."""
    longer: _Walks = {}
    for (last, counts), walk in walks.items():
        for layer in choices:
            if layer - last > every + 1:
                break
            kind = kind_of[layer]
            held = (*counts[:kind], counts[kind] + 1, *counts[kind + 1 :])
            away = _away(held, target, every)
            reached = _Walk(
                walk.beyond + sum(max(0, each - every) for each in away),
                walk.shifts + (layer - last != every),
                walk.unevenness + sum(away),
                (*walk.kept, layer),
            )
            longer[layer, held] = min(reached, longer.get((layer, held), reached))
    return longer


def _nearest(walks: _Walks, target: Sequence[int], every: int) -> _Walks:
    """Return the walks nearest to the teacher's mix, as many as can be followed."""
    most = max(8, _MOST_COUNTS // len(target))
    if len(walks) <= most:
        return walks
    ranked = sorted(walks.items(), key=lambda each: (each[1].beyond, sum(_away(each[0][1], target, every)), each[1]))
    return dict(ranked[:most])


def _away(counts: Sequence[int], target: Sequence[int], every: int) -> list[int]:
    """Return how far each kind's number of layers is from its target, in ``1 / every`` of a layer."""
    return [abs(count * every - wanted) for count, wanted in zip(counts, target, strict=True)]
