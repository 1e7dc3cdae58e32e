"""SIGTERM and SIGHUP end a command as Ctrl-C does: what it was writing is removed, then it is over."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from boomerang_cli.engine.processes.launch import is_launched

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(BaseException):
    """A signal ends the command; no ``Exception``, so that nobody takes it for a failure to be tried again.

    Attributes:
        code: the exit code that shells give it, 128 and the signal's number.
    """

    def __init__(self, number: int, told: str = "") -> None:
        super().__init__(told or f"ended by {signal.Signals(number).name}")
        self.code = 128 + number


@contextmanager
def ending_signals_raise() -> Iterator[None]:
    """Raise :class:`Terminated` in the main thread on the first such signal; a second one kills at once.

    A signal that is ignored, as under ``nohup``, stays ignored. Processes that a launcher started are left to it: it
    ends them with such a signal, and one that waits for another, outside of Python, would not hear it.
    """
    if is_launched():
        yield
        return
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> NoReturn:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)
        if os.getpid() != process:  # a child that was forked has nothing to remove
            signal.raise_signal(number)
        raise Terminated(number)

    is_main = threading.current_thread() is threading.main_thread()  # only there can handlers be set
    taken = [each for each in _ENDING if is_main and signal.getsignal(each) is signal.SIG_DFL]
    for each in taken:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)
