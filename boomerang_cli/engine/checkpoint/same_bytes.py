"""Whether two tensors hold the same bytes: on this disk all are compared, on the Hub samples, if they will do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import starmap
from pathlib import Path

from boomerang_cli.engine.checkpoint.files import File, RemoteFile
from boomerang_cli.engine.checkpoint.tensors import Tensor
from boomerang_cli.engine.errors import CheckpointError

_SAMPLE_BYTES, _SAMPLES = 2**16, 8
"""Spread over two matrices, their beginnings first: where they differ at all they nearly always differ in these."""
_PIECE_BYTES = 4 * 2**20
_CONNECTIONS = 8


def is_remote(*tensors: Tensor) -> bool:
    """Tell whether one of them is on the Hub."""
    return any(isinstance(tensor.file, RemoteFile) for tensor in tensors)


@lru_cache(maxsize=16)
def look_the_same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors are equal byte for byte, of one dtype and shape: in samples if one is on the Hub.

    Raises:
        CheckpointError: a file of this disk cannot be read.
        HubError: the Hub refuses or fails.
    """
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if not is_remote(one, other):
        return hold_the_same(one, other)
    last, same = max(0, one.size_bytes - _SAMPLE_BYTES), _comparison(one, other)
    starts = sorted({last * sample // (_SAMPLES - 1) for sample in range(_SAMPLES)})
    return all(same(start, min(start + _SAMPLE_BYTES, one.size_bytes)) for start in starts)


def begin_alike(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors are of one dtype and shape, and equal in their first bytes (errors as above)."""
    same = _comparison(one, other)
    return (one.dtype, one.shape) == (other.dtype, other.shape) and same(0, min(_SAMPLE_BYTES, one.size_bytes))


def hold_the_same(one: Tensor, other: Tensor, on_bytes: Callable[[int], None] = lambda count: None) -> bool:
    """Tell whether two tensors are equal byte for byte, of one dtype and shape (errors as above).

    Args:
        on_bytes: called with the number of bytes of each that were compared, piece by piece.
    """
    if not begin_alike(one, other):
        return False
    size, same = one.size_bytes, _comparison(one, other)
    pieces = [(start, min(start + _PIECE_BYTES, size)) for start in range(0, size, _PIECE_BYTES)]
    if not is_remote(one, other):
        return _all_equal(starmap(same, pieces), pieces, on_bytes)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        try:
            return _all_equal(pool.map(same, *zip(*pieces, strict=True)), pieces, on_bytes)
        finally:
            pool.shutdown(cancel_futures=True)


def _all_equal(found: Iterable[bool], pieces: Sequence[tuple[int, int]], on_bytes: Callable[[int], None]) -> bool:
    for equal, (start, stop) in zip(found, pieces, strict=False):
        if not equal:
            return False
        on_bytes(stop - start)
    return True


def _comparison(one: Tensor, other: Tensor) -> Callable[[int, int], bool]:
    """Return what compares the bytes from one place to another of two tensors."""
    read_one, read_other = reader_of(one.file), reader_of(other.file)

    def same(start: int, stop: int) -> bool:
        ours = read_one(one.start + start, one.start + stop)
        return ours == read_other(other.start + start, other.start + stop)

    return same


def reader_of(file: File) -> Callable[[int, int], bytes | bytearray]:
    """Return what reads the bytes from one place to another of a file."""
    if not isinstance(file, RemoteFile):
        path = file.path
        return lambda start, stop: _read(path, start, stop)
    from boomerang_cli.engine.checkpoint.hub_ranges import RangeReader

    ranges = RangeReader()
    return lambda start, stop: ranges.read(file, start, stop)


def _read(path: Path, start: int, stop: int) -> bytes:
    try:
        with path.open("rb", buffering=0) as opened:
            data = os.pread(opened.fileno(), stop - start, start)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) < stop - start:
        raise CheckpointError(f"{path} became shorter while it was read")
    return data
