"""The process that reads the text beside the one that trains, and how it ends with it, whatever happens there."""

from __future__ import annotations

import os
import threading
from multiprocessing import Pipe, parent_process
from multiprocessing.connection import wait

from boomerang_cli.engine.distillation.interrupts import ignore_interrupts
from boomerang_cli.engine.quiet import keep_libraries_quiet


class ReadingProcess:
    """Called in the process that reads, when it starts; held by the one that trains, to end it.

    Signals must not end it: the terminal and launchers send theirs to all processes, while the one that trains still
    needs text to finish its step. So it ends at a word from there, or when that process has gone. Otherwise the end of
    Python there, which sends SIGTERM and waits, would wait for ever.
    """

    def __init__(self) -> None:
        self._ending, self._end = Pipe(duplex=False)

    def __call__(self, worker: int) -> None:
        ignore_interrupts()
        keep_libraries_quiet()  # one that was not forked has none of the settings of the other
        threading.Thread(target=self._wait_for_end, daemon=True).start()

    def end(self) -> None:
        self._end.send_bytes(b"end")

    def _wait_for_end(self) -> None:
        trainer = parent_process()
        assert trainer is not None
        wait([self._ending, trainer.sentinel])
        os._exit(0)  # at once, also out of a full pipe that nobody reads; it holds nothing that could be lost
