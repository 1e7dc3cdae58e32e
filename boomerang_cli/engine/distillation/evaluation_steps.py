"""The steps of a training after which the student is scored on held-out text."""

from __future__ import annotations

from dataclasses import dataclass

TIMES_ON_THE_WAY = 10


@dataclass(frozen=True)
class EvaluationSteps:
    """Every so many steps, and the last one.

    They decide nothing about the student, so a resumed training may have others.

    Attributes:
        total: steps of the training.
        every: None is ten times on the way.
    """

    total: int
    every: int | None = None

    @property
    def _every(self) -> int:
        return self.every or max(1, self.total // TIMES_ON_THE_WAY)

    def are_due(self, step: int) -> bool:
        return step == self.total or step % self._every == 0

    def after(self, step: int) -> int:
        """Return how many there are still to come behind ``step``."""
        last_is_extra = self.total % self._every != 0 and step < self.total
        return self.total // self._every - step // self._every + last_is_extra
