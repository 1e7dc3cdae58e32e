"""Bytes moved into an open file: from this disk by the kernel, from the Hub over several connections."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from boomerang_cli.engine.dtypes import convert
from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.files import File, RemoteFile
from boomerang_cli.engine.tensors import BLOCK_BYTES, DTYPE_BYTES, Tensor

if TYPE_CHECKING:
    from boomerang_cli.engine.hub.ranges import RangeReader

_COPY_BYTES = 64 * 2**20
"""At once by the kernel: between two such pieces progress is told."""
_CONVERT_BYTES = 4 * 2**20
_CONVERT_THREADS = 2
"""Pieces are converted side by side, and written in order; each holds a few times _CONVERT_BYTES."""
_FETCH_BYTES = 4 * 2**20
_CONNECTIONS = 8
"""Pieces of the Hub's files are fetched side by side, and written where they belong."""


class Mover:
    """Appends tensors to an open file.

    Bytes of this disk are there when a call returns; bytes of the Hub arrive meanwhile, and are all there when the
    ``with`` block ends, which raises the first error of theirs.

    Args:
        output: a file descriptor, open for writing; its position is the file's end as far as a caller can see.
        on_bytes: called with the number of bytes that were written.
    """

    def __init__(self, output: int, on_bytes: Callable[[int], None]) -> None:
        self._output, self._on_bytes = output, on_bytes
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._pool: ThreadPoolExecutor | None = None
        self._ranges: RangeReader | None = None
        self._fetches: list[Future[None]] = []

    def __enter__(self) -> Mover:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._pool is None:
            return
        try:
            if error is None:
                done, _unfinished = wait(self._fetches, return_when=FIRST_EXCEPTION)
                for fetch in done:
                    fetch.result()
        finally:
            self._stopped.set()
            self._pool.shutdown(cancel_futures=True)

    def copy(self, file: File, start: int, stop: int) -> None:
        """Append bytes ``start`` to ``stop`` of a file.

        Raises:
            OutputError: the file became shorter.
            HubError: the Hub refuses or fails (or later, from the ``with`` block).
        """
        if isinstance(file, RemoteFile):
            self._fetch(file, start, stop, 1, 1, memoryview)
        else:
            copy_range(file.path, start, stop, self._output, self._count)

    def convert(self, tensor: Tensor, dtype: str) -> None:
        """Append one tensor in another dtype (errors as in :meth:`copy`, and a value that is too large for it)."""
        if isinstance(tensor.file, RemoteFile):
            widths = DTYPE_BYTES[tensor.dtype], DTYPE_BYTES[dtype]
            self._fetch(
                tensor.file,
                tensor.start,
                tensor.stop,
                *widths,
                lambda data: convert(memoryview(data), tensor.dtype, dtype, tensor.name),
            )
        else:
            append_converted(tensor, tensor.file.path, dtype, self._output, self._count)

    def _fetch(
        self,
        file: RemoteFile,
        start: int,
        stop: int,
        width: int,
        new_width: int,
        change: Callable[[bytearray], memoryview],
    ) -> None:
        """Start to fetch a range into the output's next bytes, and step over them."""
        if self._pool is None or self._ranges is None:
            from boomerang_cli.engine.hub.ranges import RangeReader

            self._pool, self._ranges = ThreadPoolExecutor(_CONNECTIONS), RangeReader(self._stopped)
        place, ranges = os.lseek(self._output, 0, os.SEEK_CUR), self._ranges

        def fetch(first: int, last: int, position: int) -> None:
            self._count(_write_at(self._output, change(ranges.read(file, first, last)), position))

        for first in range(start, stop, _FETCH_BYTES):
            position = place + (first - start) // width * new_width
            self._fetches.append(self._pool.submit(fetch, first, min(first + _FETCH_BYTES, stop), position))
        os.lseek(self._output, place + (stop - start) // width * new_width, os.SEEK_SET)

    def _count(self, size: int) -> None:
        with self._lock:
            self._on_bytes(size)


def copy_file(file: File, target: Path) -> None:
    """Copy a whole small file (errors as in :meth:`Mover.copy`)."""
    if isinstance(file, RemoteFile):
        from boomerang_cli.engine.hub.reading import fetch_file

        shutil.copyfile(fetch_file(file), target)
    else:
        with _open_source(file.path) as source, target.open("wb") as output:
            shutil.copyfileobj(source, output)


def copy_range(source: Path, start: int, stop: int, output: int, on_bytes: Callable[[int], None]) -> None:
    """Append bytes ``start`` to ``stop`` of ``source``, in the kernel where it can."""
    with _open_source(source) as file:
        position, by_kernel = start, hasattr(os, "copy_file_range")
        while position < stop:
            # A whole block can be shared with its source (see block_sharing.py), so what is before one goes alone.
            size = min(stop - position, BLOCK_BYTES - position % BLOCK_BYTES if position % BLOCK_BYTES else _COPY_BYTES)
            moved = 0
            if by_kernel:
                try:
                    moved = os.copy_file_range(file.fileno(), output, size, position)
                except OSError as error:
                    if not _kernel_cannot_copy(error):
                        raise
                by_kernel = moved > 0
            if not moved:
                moved = _write_all(output, os.pread(file.fileno(), min(size, _CONVERT_BYTES), position))
            if not moved:
                raise OutputError(f"{source} became shorter while it was read")
            position += moved
            on_bytes(moved)


def _open_source(path: Path) -> BinaryIO:
    """Open a file to read, so that its own absence is not told as the output's."""
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}") from None


def _kernel_cannot_copy(error: OSError) -> bool:
    # Between file systems, on some of them, and in sandboxes; anything else is a real failure.
    return error.errno in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)


def append_converted(tensor: Tensor, path: Path, dtype: str, output: int, on_bytes: Callable[[int], None]) -> None:
    """Append one tensor of this disk in another dtype, piece by piece."""
    width = DTYPE_BYTES[tensor.dtype]
    with _open_source(path) as file, ThreadPoolExecutor(_CONVERT_THREADS) as pool:

        def piece(start: int) -> memoryview:
            size = min(tensor.stop - start, _CONVERT_BYTES // width * width)
            data = os.pread(file.fileno(), size, start)
            if len(data) < size:
                raise OutputError(f"{path} became shorter while it was read")
            return convert(memoryview(data), tensor.dtype, dtype, tensor.name)

        starts = range(tensor.start, tensor.stop, _CONVERT_BYTES // width * width)
        for converted in _in_order(pool, piece, starts):
            on_bytes(_write_all(output, converted))


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[int], memoryview], arguments: Iterable[int]
) -> Iterator[memoryview]:
    """Yield results in the order of their arguments; at most one more than there are threads stands waiting."""
    waiting: list[Future[memoryview]] = []
    for argument in arguments:
        waiting.append(pool.submit(function, argument))
        if len(waiting) > _CONVERT_THREADS:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def _write_all(output: int, data: bytes | memoryview) -> int:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(output, rest) :]
    return len(data)


def _write_at(output: int, data: memoryview, position: int) -> int:
    rest = data
    while rest:
        written = os.pwrite(output, rest, position)
        rest, position = rest[written:], position + written
    return len(data)
