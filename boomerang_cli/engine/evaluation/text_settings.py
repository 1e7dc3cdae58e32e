"""Which text a sweep is told to score on, and how it is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from boomerang_cli.engine.errors import DataError, check_least


@dataclass(frozen=True)
class TextSettings:
    """Which text, and how it is cut.

    Attributes:
        data: what to score on; empty: the text that the student's distillation was evaluated on, if it records one.
        calibration: what to search orders on; empty: the beginning of ``data``.
        sequences, calibration_sequences: windows of each, at most.
        sequence_length: tokens in a window; None is what the teacher has positions for, 2048 at most.
        stride: tokens from the beginning of a window to that of the next; None is the length.

    Raises:
        DataError: numbers that mean nothing, or not together.
    """

    data: Sequence[str] = ()
    calibration: Sequence[str] = ()
    sequences: int = 512
    calibration_sequences: int = 64
    sequence_length: int | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        check_least(1, DataError, sequences=self.sequences, calibration_sequences=self.calibration_sequences)
        check_least(1, DataError, stride=self.stride)
        check_least(2, DataError, sequence_length=self.sequence_length)
        stride, length = self.stride, self.sequence_length
        if stride and length and stride > length:
            raise DataError(
                f"--stride {stride} would leave text out between windows of {length} tokens: give at most {length}",
                usage=True,
            )
