"""What Python's ``os`` lacks, or says otherwise on each system: exchanges, room on the disk, locks, durability."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path
from typing import Any

from boomerang_cli.engine.errors import BoomerangError

try:
    import fcntl
except ModuleNotFoundError:
    raise BoomerangError("boomerang runs on Linux and macOS: on Windows, use it under WSL") from None

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fs.h
_FICLONERANGE = 0x4020940D  # linux/fs.h
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""What a full disk, or a used-up quota, answers."""


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; tell whether the system could."""
    renameat2 = _libc_function("renameat2")
    if renameat2 is None:
        return False
    status: int = renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return status == 0


def is_mount_point(folder: Path) -> bool:
    """Tell whether something is mounted at an existing folder, also one of the same disk: it cannot be renamed."""
    return os.path.ismount(folder) or _mount_id(folder) != _mount_id(folder.absolute().parent)


def _mount_id(folder: Path) -> str | None:
    """Return the number of the mount that a folder lies in; None where the system does not tell."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return next((line for line in lines if line.startswith("mnt_id:")), None)


def share_block(source: int, output: int, size_bytes: int) -> None:
    """Let the first bytes of an open file be those of another on the disk: one block, held by both.

    Raises:
        OSError: this file system cannot.
    """
    fcntl.ioctl(output, _FICLONERANGE, struct.pack("@qQQQ", source, 0, size_bytes, 0))


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


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder for this process alone, until the descriptor is closed or the process ends.

    Returns:
        Whether it is locked now; False: another process holds it; None: this file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def sync_tree(path: Path) -> None:
    """Wait until a file, or a folder and all that is in it, is on the disk, so that a power cut cannot take it.

    Raises:
        OSError: the disk is full, or fails.
    """
    if path.is_dir() and not path.is_symlink():
        for inner in path.iterdir():
            sync_tree(inner)
    _sync(path)


def sync_name(path: Path) -> None:
    """Wait until the name of a file or folder, after a rename, is on the disk (errors as in :func:`sync_tree`)."""
    _sync(path.absolute().parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot, for folders above all
            raise
    finally:
        os.close(descriptor)


def _libc_function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None, use_errno=True), name)
    except (AttributeError, OSError, TypeError):
        return None
