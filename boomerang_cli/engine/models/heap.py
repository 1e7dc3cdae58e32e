"""Memory that loading frees goes back to the system at once, not into holes between what stays."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of glibc's ``mallopt``."""
_PIECE_BYTES = 2**20
_MOST_BYTES = 32 * 2**20
"""What glibc's threshold grows to by itself, with twice that for trimming, as larger and larger pieces are freed."""


@contextmanager
def without_holes() -> Iterator[None]:
    """Map each large piece by itself while the block runs.

    By default glibc puts pieces of up to 32 MiB one after another once such a one was freed: rows that were read and
    cast leave a sixth of a model in holes, where two processes load one. Elsewhere than in glibc nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    mallopt(_MMAP_THRESHOLD, _PIECE_BYTES)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, _MOST_BYTES)
        mallopt(_TRIM_THRESHOLD, 2 * _MOST_BYTES)
