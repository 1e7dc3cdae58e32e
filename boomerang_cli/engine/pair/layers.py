"""Which layers a student keeps, which blocks they stand for, and who owns each layer of a patched model.

Pure integers: nothing here knows of files or tensors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain, pairwise
from typing import Literal

from boomerang_cli.engine.errors import SelectionError, check_least

Owner = Literal["teacher", "student"]


@dataclass(frozen=True)
class LayerSource:
    """Where one layer of a model comes from."""

    owner: Owner
    index: int
    """The layer's index in its owner."""
    teacher_layer: int
    """The teacher layer that it is, or that it was copied from: per-layer config values follow this index."""


def default_kept_layers(
    teacher_layers: int, *, every: int = 2, keep_first: int = 1, keep_last: int = 2, period: int = 1
) -> tuple[int, ...]:
    """Return the teacher layers that a student keeps, ascending (arXiv 2510.05064, the authors' rule; FACTS.md 1).

    From layer ``keep_first`` on, the ``every - 1`` layers before each ``keep_first + every - 1, + every, …`` are
    dropped while that index is at most ``teacher_layers - keep_last``. Kinds of layers are not looked at:
    ``layer_mix.layers_in_mix`` does, which is this rule where all are of one kind.

    With a ``period``, so many layers are dropped, and kept, where else one is. Each block is then whole periods longer
    than the layer that stands for it, so that every layer keeps its place within the period at any size.

    Raises:
        SelectionError: ``every`` below 2, or ``keep_first`` or ``keep_last`` below 1.
    """
    if every < 2:
        raise SelectionError(f"--every {every} drops nothing: give 2 or more", usage=True)
    check_least(1, SelectionError, keep_first=keep_first, keep_last=keep_last)
    span = (every - 1) * period
    dropped = {
        layer
        for start in range(keep_first, teacher_layers - keep_last - span + 1, every * period)
        for layer in range(start, start + span)
    }
    return tuple(layer for layer in range(teacher_layers) if layer not in dropped)


def check_kept(kept: Sequence[int]) -> None:
    """Refuse layers that no student keeps, whatever its teacher.

    Raises:
        SelectionError: they are not ascending, or do not start with 0.
    """
    shown = ",".join(map(str, kept)) or "none"
    if not kept or kept[0] != 0:
        raise SelectionError(f"kept layers must start with layer 0, not {shown}", usage=True)
    if any(later <= earlier for earlier, later in pairwise(kept)):
        raise SelectionError(f"kept layers must ascend without repeats: {shown}", usage=True)


@dataclass(frozen=True)
class LayerMap:
    """A student's layers against its teacher's.

    Raises:
        SelectionError: kept layers that are not ascending, do not start with 0, or lie outside the teacher.
    """

    teacher_layers: int
    kept: tuple[int, ...]

    def __post_init__(self) -> None:
        check_kept(self.kept)
        if self.kept[-1] >= self.teacher_layers:
            raise SelectionError(
                f"kept layer {self.kept[-1]} is outside the teacher's {self.teacher_layers} layers "
                f"(0 to {self.teacher_layers - 1})"
            )

    @property
    def student_layers(self) -> int:
        return len(self.kept)

    @cached_property
    def pruned(self) -> tuple[int, ...]:
        """The teacher layers that the student lacks."""
        return tuple(sorted(set(range(self.teacher_layers)) - set(self.kept)))

    @cached_property
    def blocks(self) -> tuple[range, ...]:
        """Block i: the teacher layers that student layer i stands for."""
        return tuple(range(start, stop) for start, stop in pairwise((*self.kept, self.teacher_layers)))

    @cached_property
    def patchable(self) -> tuple[int, ...]:
        """The blocks of two or more layers, ascending; n is their number."""
        return tuple(index for index, block in enumerate(self.blocks) if len(block) > 1)

    @cached_property
    def aligned_states(self) -> tuple[tuple[int, int], ...]:
        """Pairs (student, teacher) of ``hidden_states`` that distillation pulls together (FACTS.md 1).

        Numbered as transformers does: 0 is the embedding's output, j the output of layer j - 1, -1 the output of the
        final norm. There are ``student_layers + 1`` pairs.
        """
        return self.states_at_blocks(())

    def states_at_blocks(self, patched: Collection[int]) -> tuple[tuple[int, int], ...]:
        """Return the same pairs of the model in which the blocks in ``patched`` are the teacher's (its state, theirs).

        They are what enters each block, and what leaves the final norm: as many at any size, at the same places.
        """
        entered = accumulate((len(step) for step in self.steps(patched)), initial=0)
        return (*zip(entered, self.kept, strict=False), (-1, -1))  # what leaves the last block is not normed yet

    def order(self, order: str | Sequence[int]) -> tuple[int, ...]:
        """Return the patchable blocks in the sequence in which they are patched.

        Args:
            order: ``first`` (from the start), ``last`` (from the end), or every patchable block once.

        Raises:
            SelectionError: any other name, or a list that is not a permutation of the patchable blocks.
        """
        if order == "first":
            return self.patchable
        if order == "last":
            return self.patchable[::-1]
        if isinstance(order, str):
            raise SelectionError(f"unknown order {order!r}: give first, last or a list of blocks")
        if sorted(order) != list(self.patchable):
            raise SelectionError(f"order {list(order)} must hold each patchable block once: {list(self.patchable)}")
        return tuple(order)

    def check_blocks(self, blocks: Iterable[int]) -> tuple[int, ...]:
        """Return ``blocks`` ascending, once it is sure that each is patchable and named once."""
        chosen = sorted(blocks)
        if len(set(chosen)) < len(chosen):
            raise SelectionError(f"a block is named twice in {chosen}")
        if unknown := [block for block in chosen if block not in self.patchable]:
            raise SelectionError(f"blocks {unknown} cannot be patched: the patchable blocks are {list(self.patchable)}")
        return tuple(chosen)

    def sources(self, patched: Collection[int]) -> tuple[LayerSource, ...]:
        """Return where each layer of the model comes from when the blocks in ``patched`` are the teacher's.

        The patching rule (SPEC.md): a patched block is the teacher's, any other patchable block is the student's one
        layer, and a one-layer block is the teacher's when the nearest patchable block on either side is patched.
        """
        return tuple(chain.from_iterable(self.steps(patched)))

    def steps(self, patched: Collection[int]) -> tuple[tuple[LayerSource, ...], ...]:
        """Return the same block by block: the layers of a patched block together, else the student's one layer."""
        patched = set(self.check_blocks(patched))
        if not self.patchable:  # nothing was dropped, so k = 0 = n: the student, by rule 4
            return tuple((LayerSource("student", index, layer),) for index, layer in enumerate(self.kept))
        return tuple(
            tuple(LayerSource("teacher", layer, layer) for layer in block)
            if self._is_teachers(index, patched)
            else (LayerSource("student", index, block.start),)
            for index, block in enumerate(self.blocks)
        )

    def _is_teachers(self, index: int, patched: Collection[int]) -> bool:
        if index in self.patchable:
            return index in patched
        before = [block for block in self.patchable if block < index][-1:]
        after = [block for block in self.patchable if block > index][:1]
        return any(block in patched for block in before + after)
