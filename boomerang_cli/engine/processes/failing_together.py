"""Processes that work together end together: one tells why, and none is left waiting for another that has gone."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from torch.distributed import DistError
from torch.distributed.distributed_c10d import Store, _get_default_store

from boomerang_cli.engine.errors import BoomerangError, ProcessError
from boomerang_cli.engine.processes.group import is_distributed, processes, rank

_FAILED = "boomerang/failed"
_AT_WORK, _LEFT = "boomerang/at-work", "boomerang/left"
_LOOK_SECONDS = 1.0
_SAME_ERROR_SECONDS = 2.0
"""How long after one another processes raise an error that all of them meet."""
_GRACE_SECONDS = 9.0
"""For the one that speaks, which may wait five seconds before it does (``cli.error_line.error``)."""


@contextmanager
def failing_together(
    way_out: Callable[[], str] = lambda: "start again", tell: Callable[[str], None] = lambda line: None
) -> Iterator[None]:
    """Tell the others when the block fails, and end this process when another has failed, or was killed.

    Without its peer a process gets an error about a connection, or waits for ever: NCCL's kernels spin, and a signal is
    not seen before they return.

    Args:
        way_out: says what to do when a process was killed.
        tell: called with that line where this process does not come back to raise it; the process ends then.

    Raises:
        SystemExit: another process failed too, and says why.
        ProcessError: another process was killed.
    """
    if not is_distributed():
        yield
        return
    store = _get_default_store()
    done = threading.Event()

    def lost() -> str:
        return f"one of {processes()} processes was killed, or its machine was lost: {way_out()}"

    store.set(f"{_AT_WORK}/{rank()}", f"{_this_system()} {os.getpid()}")
    watch = threading.Thread(target=_end_with_others, args=(store, done, lambda: tell(lost())), daemon=True)
    watch.start()
    try:
        yield
    except Exception as error:
        if _another_speaks(store, error):
            time.sleep(_GRACE_SECONDS)  # an end would have the launcher end the one that speaks
            raise SystemExit(1) from None
        if _is_cut_off(error):
            raise ProcessError(lost()) from None
        raise
    finally:
        done.set()
        with suppress(RuntimeError):
            store.set(f"{_LEFT}/{rank()}", "")


def _another_speaks(store: Store, error: Exception) -> bool:
    """Note that this process has failed; the first one speaks if it knows why, else the one that was first to fail."""
    own, knows_why = str(rank()), isinstance(error, BoomerangError)
    try:
        first = store.compare_set(_FAILED, "", own).decode()
        if knows_why:
            store.set(f"{_FAILED}/{own}", "")
        if not knows_why or own == "0":
            return not knows_why and first != own
        store.wait([f"{_FAILED}/0"], timedelta(seconds=_SAME_ERROR_SECONDS))
    except RuntimeError:  # the first one has no such error, or the store has gone with it
        return False
    return True


def _end_with_others(store: Store, done: threading.Event, tell: Callable[[], None]) -> None:
    while not done.wait(_LOOK_SECONDS):
        with suppress(RuntimeError):
            told = store.check([_FAILED])
            if told or _one_was_killed(store):
                speaks = not told and store.compare_set(_FAILED, "", str(rank())).decode() == str(rank())
                if not done.wait(_GRACE_SECONDS):
                    if speaks:
                        tell()
                    os._exit(1)
                return


def _is_cut_off(error: Exception) -> bool:
    """Tell whether an error is what a backend makes of a peer that has gone; gloo's has no type of its own."""
    return isinstance(error, DistError) or (type(error) is RuntimeError and "gloo/transport" in str(error))


def _one_was_killed(store: Store) -> bool:
    """Tell whether another process of this system is no more, without having left."""
    for other in range(processes()):
        if other == rank() or not store.check([f"{_AT_WORK}/{other}"]) or store.check([f"{_LEFT}/{other}"]):
            continue
        system, process_id = store.get(f"{_AT_WORK}/{other}").decode().rsplit(" ", 1)
        if system == _this_system() and _is_no_more(int(process_id)):
            return not store.check([f"{_LEFT}/{other}"])  # it may just have done so
    return False


def _is_no_more(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _this_system() -> str:
    """Return what processes have in common that see one another: machines, and containers on one, have different."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()
