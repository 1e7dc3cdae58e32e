"""The only place that tells of waiting: what takes two seconds says what it is, and goes on to say so."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_SECONDS = 2.0
"""Before a word: what is over sooner needs none."""
FURTHER_SECONDS = 10.0
"""Between further words, which tell for how long it has been."""

on_wait: Callable[[str], None] | None = None
"""Who wants to hear of it, from another thread: every command can wait for the Hub."""


@contextmanager
def waiting(
    what: str | Callable[[], str], first_seconds: float | None = None, further_seconds: float | None = None
) -> Iterator[None]:
    """Tell ``on_wait`` of ``what`` if the block takes long: ``reading owner/name from the Hub``.

    A process that reads text beside the one that trains is silent: the other one waits for it, and tells.

    Args:
        what: or what returns it, asked from another thread whenever it is told.
        first_seconds, further_seconds: before the first word, and between further ones; None is the constant's.
    """
    tell = on_wait
    if tell is None or _is_child():
        yield
        return
    over, started = threading.Event(), time.monotonic()

    def say() -> str:
        return what if isinstance(what, str) else what()

    def watch() -> None:
        if over.wait(FIRST_SECONDS if first_seconds is None else first_seconds):
            return
        tell(f"{say()} …")
        while not over.wait(FURTHER_SECONDS if further_seconds is None else further_seconds):
            tell(f"{say()} … ({time.monotonic() - started:.0f} s)")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()  # so that nothing is told of it behind what follows


def _is_child() -> bool:
    process = sys.modules.get("multiprocessing.process")  # a child has it; a patch should not have to load it
    return process is not None and process.parent_process() is not None
