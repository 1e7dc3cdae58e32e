"""Processes that train together end together: one tells why, and none is left waiting for another that has gone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from torch.distributed.distributed_c10d import Store, _get_default_store

from boomerang_cli.engine.distillation.sharding import is_distributed, rank
from boomerang_cli.engine.errors import BoomerangError

_FAILED = "boomerang/failed"
_LOOK_SECONDS = 1.0
_GRACE_SECONDS = 7.0
"""More than the five that a process other than the first waits before it speaks (``cli.output.error``)."""


@contextmanager
def failing_together() -> Iterator[None]:
    """Tell the others when the block fails, and end this process when another has failed.

    Without its peer a process gets an error about a connection, or waits for ever: NCCL's kernels spin, and a signal is
    not seen before they return.

    Raises:
        SystemExit: another process failed before, and says why.
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
        first = str(rank())
        with suppress(RuntimeError):  # the store has gone with the process that kept it
            first = store.compare_set(_FAILED, "", first).decode()
        if first != str(rank()) and not isinstance(error, BoomerangError):  # one of ours may be everybody's
            raise SystemExit(1) from None
        raise
    finally:
        done.set()


def _end_with_others(store: Store, done: threading.Event) -> None:
    while not done.wait(_LOOK_SECONDS):
        with suppress(RuntimeError):
            if store.check([_FAILED]):
                if not done.wait(_GRACE_SECONDS):
                    os._exit(1)
                return
