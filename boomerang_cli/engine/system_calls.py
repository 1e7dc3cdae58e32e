"""System calls that Python's ``os`` lacks: two folders exchanged in one step, and room on the disk reserved."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Any

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fs.h
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""What a full disk, or a used-up quota, answers."""


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; tell whether the system could."""
    renameat2 = _libc_function("renameat2")
    if renameat2 is None:
        return False
    status: int = renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return status == 0


def reserve(descriptor: int, size_bytes: int) -> None:
    """Give an empty file its size and its disk blocks at once, where the file system can; else do nothing.

    ``os.posix_fallocate`` would write to each block instead where it cannot.

    Raises:
        OSError: the disk, or the user's quota, has not enough room.
    """
    fallocate = _libc_function("fallocate")
    if fallocate is None:
        return
    failed = fallocate(descriptor, 0, ctypes.c_int64(0), ctypes.c_int64(size_bytes))
    if failed and ctypes.get_errno() in NO_ROOM:  # anything else shows, if it matters, when bytes are written
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _libc_function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None, use_errno=True), name)
    except (AttributeError, OSError, TypeError):
        return None
