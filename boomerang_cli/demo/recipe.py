"""How large the built-in teacher is and how it learns."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """The defaults are the teacher that is shipped.

    Attributes:
        steps, minutes: training ends when either is used up; infinity is no bound.
        threads: CPU cores to use.
        layers: many, as layers are what is patched; so the rest is small.
        vocabulary_size: a large one would be most of so small a model.
    """

    steps: float = math.inf
    minutes: float = math.inf
    threads: int = 1
    layers: int = 12
    hidden_size: int = 128
    heads: int = 4
    vocabulary_size: int = 1024
    context_length: int = 256
    batch_size: int = 8
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    seed: int = 0

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.context_length

    def learning_rate_at(self, step: int, progress: float) -> float:
        """Return the learning rate of a step: a linear warm-up, under a cosine that reaches zero at ``progress`` 1."""
        warmup = min(1.0, (step + 1) / self.warmup_steps)
        return self.learning_rate * warmup * (1 + math.cos(math.pi * progress)) / 2
