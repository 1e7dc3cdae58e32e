"""Where a training stands: what its display shows, and how long its steps have taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

PARTS = ("total", "cross_entropy", "kl", "cosine")


@dataclass(frozen=True)
class TrainingProgress:
    """What a progress display shows.

    Attributes:
        tokens_per_step: over all processes.
        micro_batch_size: sequences that run at once in each process.
        losses: ``total cross_entropy kl cosine``, means over the steps that were last logged; empty before.
        evaluation: ``loss perplexity`` on the evaluation text, as last measured; empty before.
        seconds_left: of training, at the speed so far; None before the first step.
        stopping: a Ctrl-C was seen, the step will be finished and saved.
    """

    step: int
    steps: int
    tokens_per_step: int
    micro_batch_size: int
    losses: Mapping[str, float]
    evaluation: Mapping[str, float]
    learning_rate: float
    tokens_per_second: float
    seconds_left: float | None
    stopping: bool = False


ProgressCallback = Callable[[TrainingProgress], None]


class Clock:
    """Counts the seconds that steps take, over all parts of a resumed run; evaluation and saving are not counted."""

    def __init__(self, stopped_seconds: float = 0.0) -> None:
        self.stopped_seconds = stopped_seconds
        self._since = time.monotonic()
        self._step = 0

    def restart(self, step: int) -> None:
        """Forget the time since the clock was last stopped: no step was running."""
        self._since, self._step = time.monotonic(), step

    def stop(self, step: int) -> None:
        """Count the time of the steps up to ``step``."""
        self.stopped_seconds = self.seconds(step)
        self.restart(step)

    def seconds(self, step: int) -> float:
        running = time.monotonic() - self._since if step > self._step else 0.0
        return self.stopped_seconds + running
