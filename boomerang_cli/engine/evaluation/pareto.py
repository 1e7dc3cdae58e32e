"""The sizes of a sweep that are worth having, and the one of them that is recommended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """A size on the Pareto front: none with as few parameters is closer to the teacher.

    Attributes:
        order, layers: of its row; of several rows with the same model, the first of the order that ``order.json`` is.
        gain: how much closer to the teacher the next larger size on the front is, in nats a token; None of the last.
        gain_stderr: its standard error, paired by window; None of the last, and if there is but one window.
    """

    order: str
    layers: int
    depth: int
    parameters: int
    patched_blocks: tuple[int, ...]
    kl: float
    gain: float | None
    gain_stderr: float | None


@dataclass(frozen=True)
class Recommendation:
    """What follows from the scores of a sweep for who needs one of its sizes.

    Attributes:
        measure: what is compared, lower being better.
        pareto: the sizes on the front, smaller ones first.
        knee: the recommended one; None if no size stands out.
        rule: how it was found: ``one standard error``, ``elbow``, or ``only size``; None without one.
        reason: the same for people, with the numbers.
    """

    measure: str
    pareto: tuple[Size, ...]
    knee: Size | None
    rule: str | None
    reason: str

    def is_on_front(self, patched_blocks: Collection[int]) -> bool:
        """Tell whether the model with these blocks patched, in whatever order's row, is on the Pareto front."""
        return tuple(patched_blocks) in {size.patched_blocks for size in self.pareto}

    def is_knee(self, patched_blocks: Collection[int]) -> bool:
        """Tell whether the model with these blocks patched is the recommended one."""
        return self.knee is not None and tuple(patched_blocks) == self.knee.patched_blocks
