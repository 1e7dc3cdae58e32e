"""Ctrl-C during training: the first one ends the current step and saves, the second one stops at once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

# Launchers pass a signal on to processes that the terminal has already sent it to: one Ctrl-C, seen twice.
_ECHO_SECONDS = 1.0


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted, and everything that it had reached is saved.

    Attributes:
        checkpoint: the folder that ``resume=True`` goes on from.
        step: the number of finished steps.
        steps: the number of steps asked for.
        number: of the signal that it was.
    """

    def __init__(self, checkpoint: Path, step: int, steps: int, number: int = signal.SIGINT) -> None:
        super().__init__(f"interrupted after step {step} of {steps}, saved in {checkpoint}")
        self.checkpoint = checkpoint
        self.step = step
        self.steps = steps
        self.number = number


class Interrupts:
    """Remembers SIGINT and SIGTERM instead of raising, while it is entered.

    Args:
        on_request: called once, as soon as the first signal arrives.

    Attributes:
        number: of the first signal.
    """

    def __init__(self, on_request: Callable[[], None] | None = None) -> None:
        self.requested = False
        self.number: int = signal.SIGINT
        self._on_request = on_request
        self._first = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # only there can handlers be set
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self.number, self._first = True, number, time.monotonic()
            if self._on_request:
                self._on_request()
        elif time.monotonic() - self._first > _ECHO_SECONDS:
            raise KeyboardInterrupt


def ignore_interrupts() -> None:
    """Let a data-loading process finish its work when the terminal sends Ctrl-C to all processes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
