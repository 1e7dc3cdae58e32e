"""What a distillation is made of: every value that decides the result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from boomerang_cli.engine.errors import TrainingError

DEFAULT_DATA = ("EleutherAI/the_pile_deduplicated",)


@dataclass(frozen=True)
class Recipe:
    """The published students' recipe, unless told otherwise (FACTS.md 1).

    What only decides how fast the result is reached, such as the micro-batch size, is not part of it.

    Attributes:
        batch_size: sequences in one step of the optimiser, over all processes.
        sequence_length: tokens in a sequence.
        warmup_ratio: the share of the steps over which the learning rate rises.
        cosine_weight: the total over all aligned states.
        repeat: whether a text that is too short is read again.

    Raises:
        TrainingError: a value with which nothing can be trained.
    """

    data: tuple[str, ...] = DEFAULT_DATA
    eval_data: tuple[str, ...] = ()
    steps: int = 500
    batch_size: int = 2048
    sequence_length: int = 2048
    learning_rate: float = 3e-4
    warmup_ratio: float = 0.01
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    kl_weight: float = 0.1
    cosine_weight: float = 2.0
    temperature: float = 1.0
    cross_entropy: bool = True
    kl: bool = True
    cosine: bool = True
    seed: int = 0
    repeat: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{_flag(name)} {getattr(self, name)} must be 1 or more")
        if self.sequence_length < 2:
            raise TrainingError(f"--sequence-length {self.sequence_length} must be 2 or more")
        for name in ("learning_rate", "temperature", "max_grad_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise TrainingError(f"{_flag(name)} {getattr(self, name)} must be above 0")
        for name in ("weight_decay", "kl_weight", "cosine_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise TrainingError(f"{_flag(name)} {getattr(self, name)} must be 0 or more")
        if not 0 <= self.warmup_ratio < 1:
            raise TrainingError(f"--warmup-ratio {self.warmup_ratio} must be a share of the steps, from 0 to below 1")
        if not 0 <= self.seed < 2**32:
            raise TrainingError(f"--seed {self.seed} must be from 0 to {2**32 - 1}")
        if not (self.cross_entropy or self.kl or self.cosine):
            raise TrainingError("nothing to train on: leave out one of --no-cross-entropy, --no-kl, --no-cosine")

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.sequence_length

    @property
    def tokens(self) -> int:
        return self.steps * self.tokens_per_step

    @property
    def warmup_steps(self) -> int:
        return math.ceil(self.steps * self.warmup_ratio)

    def accumulation_steps(self, micro_batch_size: int, processes: int) -> int:
        """Return how many micro-batches each process runs for one step.

        Raises:
            TrainingError: the batch cannot be split into equal parts.
        """
        together = micro_batch_size * processes
        if micro_batch_size < 1 or self.batch_size % together:
            each = f"--micro-batch-size {micro_batch_size}"
            split = each if processes == 1 else f"{each} on {processes} processes ({together} sequences)"
            raise TrainingError(f"--batch-size {self.batch_size} cannot be split into equal parts of {split}")
        return self.batch_size // together

    def as_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def check_same(self, saved: Mapping[str, Any]) -> None:
        """Refuse to go on with a run that was started with another recipe; text is compared by content, elsewhere.

        Raises:
            TrainingError: names each value that differs, with both values.
        """
        ours = self.as_json()
        differences = [
            f"{_flag(field.name)} {ours[field.name]} (was {saved.get(field.name)})"
            for field in fields(self)
            if field.name not in ("data", "eval_data") and ours[field.name] != saved.get(field.name)
        ]
        if differences:
            raise TrainingError(
                f"the run to resume had another recipe: {', '.join(differences)}; "
                "give the same values, or start anew with --overwrite"
            )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
