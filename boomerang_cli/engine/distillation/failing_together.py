"""Processes that train together end together: one tells why, and none is left waiting for another that has gone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from torch.distributed.distributed_c10d import Store, _get_default_store

from boomerang_cli.engine.distillation.processes import is_distributed, rank
from boomerang_cli.engine.errors import BoomerangError

_FAILED = "boomerang/failed"
_LOOK_SECONDS = 1.0
_SAME_ERROR_SECONDS = 2.0
"""How long after one another processes raise an error that all of them meet."""
_GRACE_SECONDS = 9.0
"""For the one that speaks, which may wait five seconds before it does (``cli.error_line.error``)."""


@contextmanager
def failing_together() -> Iterator[None]:
    """Tell the others when the block fails, and end this process when another has failed.

    Without its peer a process gets an error about a connection, or waits for ever: NCCL's kernels spin, and a signal is
    not seen before they return.

    Raises:
        SystemExit: another process failed too, and says why.
    """
    if not is_distributed():
        yield
        return
    store = _get_default_store()
    done = threading.Event()
    threading.Thread(target=_end_with_others, args=(store, done), daemon=True).start()
    try:
        yield
    except Exception as error:
        if _another_speaks(store, error):
            time.sleep(_GRACE_SECONDS)  # an end would have the launcher end the one that speaks
            raise SystemExit(1) from None
        raise
    finally:
        done.set()


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


def _end_with_others(store: Store, done: threading.Event) -> None:
    while not done.wait(_LOOK_SECONDS):
        with suppress(RuntimeError):
            if store.check([_FAILED]):
                if not done.wait(_GRACE_SECONDS):
                    os._exit(1)
                return
