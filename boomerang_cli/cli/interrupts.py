"""Ctrl-C at any moment: one line and 130, also while modules load."""

from __future__ import annotations

import os
import signal
import sys
import time

TYPE_CHECKING = False  # typing itself takes milliseconds, in which nobody listens to Ctrl-C yet
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

EXIT_CODE = 130
_PROCESS = os.getpid()
_PATIENCE_SECONDS = 1.0
"""For an import to end: one within work does, which then is tidied up; those at the start take longer."""
_LOOK_SECONDS = 0.05
_since: float | None = None
_SHOW_CURSOR = "\r\x1b[K\x1b[?25h"
"""What a progress display that is on the screen would do last: clear its line, and show the cursor."""


def install() -> None:
    """Take Ctrl-C from here on, unless it is ignored (a job in the background) or a traceback is wanted."""
    if os.environ.get("BOOMERANG_DEBUG") == "1" or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    for number in (signal.SIGINT, signal.SIGALRM):
        signal.signal(number, _interrupt)


def end_at_once() -> NoReturn:
    """Say that the command was interrupted, and end the process; of several that train together, one speaks.

    A process that was forked from it, to read the text, gets the terminal's signal too, and says nothing.
    """
    try:
        if os.environ.get("RANK", "0") == "0" and os.getpid() == _PROCESS:
            tidied = _SHOW_CURSOR if "rich.live" in sys.modules and os.isatty(2) else ""
            os.write(2, f"{tidied}error: interrupted\n".encode())
    finally:  # also where nobody listens
        os._exit(EXIT_CODE)


def hurry(exit_code: int) -> None:
    """From now on Ctrl-C only shortens the way out: the command is done, and Python is tidying up."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(exit_code))


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not in the middle of an import: look again when it may be over, or end at once.

    There it can come out as another error: torch, numpy and transformers make it an ImportError, a SystemError, a
    warning, or nothing.
    """
    global _since
    if not _is_importing(frame):
        _since = None
        raise KeyboardInterrupt
    is_second = number == signal.SIGINT and _since is not None
    if _since is None:
        _since = time.monotonic()
    if is_second or time.monotonic() - _since > _PATIENCE_SECONDS:
        end_at_once()
    signal.setitimer(signal.ITIMER_REAL, _LOOK_SECONDS)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
