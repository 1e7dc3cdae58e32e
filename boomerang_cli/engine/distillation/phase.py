"""A phase of a training: steps of one kind of data, with one kind of batch."""

from __future__ import annotations

from dataclasses import dataclass

from boomerang_cli.engine.errors import TrainingError


@dataclass(frozen=True)
class Phase:
    """Some of the steps of a training; warm-up and schedule run over all phases.

    Attributes:
        name: ``text`` or ``sft``, as a display shows it.
        prefix: of its flags: ``""``, ``sft-``.
        batch_size: sequences in one step of the optimiser, over all processes.
        sequence_length: tokens in a sequence; at most, where each is a conversation.
        cross_entropy, kl, cosine: whether the part belongs to the loss.
        response_only: whether only the tokens of responses count in the loss, or all.
    """

    name: str
    prefix: str
    steps: int
    batch_size: int
    sequence_length: int
    cross_entropy: bool = True
    kl: bool = True
    cosine: bool = True
    response_only: bool = False

    @property
    def sequences(self) -> int:
        return self.steps * self.batch_size

    @property
    def tokens_per_step(self) -> int:
        """Return how many tokens a step has at most: exactly so many, where all of them count."""
        return self.batch_size * self.sequence_length

    def flag(self, name: str) -> str:
        return f"--{self.prefix}{name.replace('_', '-')}"

    def accumulation_steps(self, micro_batch_size: int, processes: int) -> int:
        """Return how many micro-batches each process runs for one step.

        Raises:
            TrainingError: the batch cannot be split into equal parts.
        """
        together = micro_batch_size * processes
        if micro_batch_size < 1 or self.batch_size % together:
            each = f"--micro-batch-size {micro_batch_size}"
            split = each if processes == 1 else f"{each} on {processes} processes ({together} sequences)"
            raise TrainingError(
                f"{self.flag('batch_size')} {self.batch_size} cannot be split into equal parts of {split}: make it a "
                f"multiple of {together}"
            )
        return self.batch_size // together
