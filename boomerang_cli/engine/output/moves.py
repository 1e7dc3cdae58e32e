"""Bytes moved into an open file: of this disk as they are or computed, of the Hub over several connections."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from boomerang_cli.engine.checkpoint.files import File, RemoteFile
from boomerang_cli.engine.checkpoint.tensors import BLOCK_BYTES, DTYPE_BYTES, Tensor
from boomerang_cli.engine.errors import OutputError

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from boomerang_cli.engine.checkpoint.hub_ranges import RangeReader

_COPY_BYTES = 64 * 2**20
"""At once by the kernel: between two such pieces progress is told."""
_BUFFER_BYTES = 2**19
"""What passes through this process: it stays in a core's own cache, and a write of it takes large pages."""
_COMPUTE_VALUES = 2**22
_BLOCK_VALUES = 2**18
"""Computed at once: few enough that memory stays in the cache and is used again, many enough that threads, which take
turns at the interpreter before each step of the arithmetic, seldom wait for one another."""
_FETCH_BYTES = 4 * 2**20
_CONNECTIONS = 8
"""Pieces are fetched from the Hub side by side, and written where they belong."""
_PROCESSORS = min(_CONNECTIONS, os.cpu_count() or 1)
"""Pieces of this disk are computed side by side; more threads than processors push one another out of the cache."""


class Mover:
    """Appends tensors to an open file.

    Bytes of this disk are there when a call returns; what is computed, or comes from the Hub, arrives meanwhile, and
    is all there when the ``with`` block ends, which raises the first error of it.

    Args:
        output: a file descriptor, open for writing; its position is the file's end as far as a caller can see.
        on_bytes: called with the number of bytes that were written.
        share_blocks: whether the file system can share blocks of the output with its sources.
    """

    def __init__(self, output: int, on_bytes: Callable[[int], None], *, share_blocks: bool = False) -> None:
        self._output, self._on_bytes, self._share_blocks = output, on_bytes, share_blocks
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._ranges: RangeReader | None = None
        self._pieces: list[Future[None]] = []

    def __enter__(self) -> Mover:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._pools:
            return
        from concurrent.futures import FIRST_EXCEPTION, wait

        try:
            if error is None:
                done, _unfinished = wait(self._pieces, return_when=FIRST_EXCEPTION)
                for piece in done:
                    piece.result()
        finally:
            self._stopped.set()
            for pool in self._pools.values():
                pool.shutdown(cancel_futures=True)

    def copy(self, file: File, start: int, stop: int) -> None:
        """Append bytes ``start`` to ``stop`` of a file.

        Raises:
            OutputError: the file became shorter.
            HubError: the Hub refuses or fails (or later, from the ``with`` block).
        """
        if isinstance(file, RemoteFile):
            ranges = self._range_reader()

            def fetch(first: int, last: int) -> list[bytearray]:
                return [ranges.read(file, start + first, start + last)]

            self._in_pieces(self._pool(_CONNECTIONS), stop - start, _FETCH_BYTES, 1, fetch)
        else:
            by_kernel = _kernel_shares(self._share_blocks, start, self._output)
            copy_range(file.path, start, stop, self._output, self._count, by_kernel=by_kernel)

    def compute(self, inputs: Sequence[Tensor], dtype: str, compute: Callable[..., memoryview]) -> None:
        """Append one tensor that is computed from others of its shape.

        Args:
            dtype: what its numbers are written as.
            compute: given the same numbers' bytes of each input, returns those of the output.

        Raises:
            OutputError, HubError: as in :meth:`copy`, or of ``compute``; from the ``with`` block.
        """
        remote = any(isinstance(tensor.file, RemoteFile) for tensor in inputs)
        widest = max(DTYPE_BYTES[tensor.dtype] for tensor in inputs)
        if remote:
            self._range_reader()

        def make(first: int, last: int) -> Iterator[memoryview]:
            with ExitStack() as opened:
                readers = [self._reader(tensor, first, last, opened) for tensor in inputs]
                for start in range(first, last, _BLOCK_VALUES):
                    yield compute(*(read(start, min(start + _BLOCK_VALUES, last)) for read in readers))

        pool = self._pool(_CONNECTIONS if remote else _PROCESSORS)
        piece = _FETCH_BYTES // widest if remote else _COMPUTE_VALUES
        self._in_pieces(pool, inputs[0].parameters, piece, DTYPE_BYTES[dtype], make)

    def _pool(self, threads: int) -> ThreadPoolExecutor:
        """Return the one pool of so many threads."""
        from concurrent.futures import ThreadPoolExecutor  # most models only copy bytes of this disk

        if threads not in self._pools:
            self._pools[threads] = ThreadPoolExecutor(threads)
        return self._pools[threads]

    def _in_pieces(
        self,
        pool: ThreadPoolExecutor,
        values: int,
        piece: int,
        width: int,
        make: Callable[[int, int], Iterable[bytes | bytearray | memoryview]],
    ) -> None:
        """Start to write the output's next numbers, so many at once, and step over them.

        Args:
            width: bytes of one number.
            make: returns the bytes of numbers from one to another, part by part.
        """
        place = os.lseek(self._output, 0, os.SEEK_CUR)

        def move(first: int, last: int) -> None:
            position = place + first * width
            for part in make(first, last):
                position += _write_at(self._output, memoryview(part), position)
            self._count((last - first) * width)

        for first in range(0, values, piece):
            self._pieces.append(pool.submit(move, first, min(first + piece, values)))
        os.lseek(self._output, place + values * width, os.SEEK_SET)

    def _reader(self, tensor: Tensor, first: int, last: int, opened: ExitStack) -> Callable[[int, int], memoryview]:
        """Return what gives the bytes of some of a tensor's numbers ``first`` to ``last``.

        Those of the Hub are fetched at once. Those of this disk are read as they are asked for, into the same memory
        again and again, at most a block of them.
        """
        width, file = DTYPE_BYTES[tensor.dtype], tensor.file
        if isinstance(file, RemoteFile):
            start, stop = (tensor.start + number * width for number in (first, last))
            data = memoryview(self._range_reader().read(file, start, stop))
            return lambda one, other: data[(one - first) * width : (other - first) * width]
        source = opened.enter_context(_open_source(file.path))
        buffer = memoryview(bytearray(min(_BLOCK_VALUES, last - first) * width))

        def read(one: int, other: int) -> memoryview:
            wanted = buffer[: (other - one) * width]
            source.seek(tensor.start + one * width)
            if source.readinto(wanted) < len(wanted):
                raise OutputError(f"{file.path} became shorter while it was read")
            return wanted

        return read

    def _range_reader(self) -> RangeReader:
        """Return the one reader of ranges, made by the thread that asks first."""
        from boomerang_cli.engine.checkpoint.hub_ranges import RangeReader

        self._ranges = self._ranges or RangeReader(self._stopped)
        return self._ranges

    def _count(self, size: int) -> None:
        with self._lock:
            self._on_bytes(size)


def copy_file(file: File, target: Path) -> None:
    """Copy a whole small file (errors as in :meth:`Mover.copy`)."""
    if isinstance(file, RemoteFile):
        from boomerang_cli.engine.checkpoint.hub_reading import fetch_file

        shutil.copyfile(fetch_file(file), target)
    else:
        with _open_source(file.path) as source, target.open("wb") as output:
            shutil.copyfileobj(source, output)


def copy_range(
    source: Path, start: int, stop: int, output: int, on_bytes: Callable[[int], None], *, by_kernel: bool
) -> None:
    """Append bytes ``start`` to ``stop`` of ``source``, by the kernel or through a buffer.

    The kernel's copy is for blocks that can be shared. Where it has to move bytes, a buffer took 0.7 of its time, and
    0.6 where they stand elsewhere within a block than before (ext4, Linux 6.18, 3 GB in the page cache).
    """
    with _open_source(source) as file:
        position = start
        buffer = memoryview(bytearray(min(_BUFFER_BYTES, stop - start)))
        while position < stop:
            moved = 0
            if by_kernel:
                moved = _copy_by_kernel(file, position, stop, output)
                by_kernel = moved > 0
            if not moved:
                file.seek(position)
                moved = _write_all(output, buffer[: file.readinto(buffer[: stop - position])])
            if not moved:
                raise OutputError(f"{source} became shorter while it was read")
            position += moved
            on_bytes(moved)


def _kernel_shares(share_blocks: bool, start: int, output: int) -> bool:
    """Tell whether bytes will stand at the same place within a disk block as in their source, and can be shared."""
    stands_alike = (os.lseek(output, 0, os.SEEK_CUR) - start) % BLOCK_BYTES == 0
    return share_blocks and stands_alike and hasattr(os, "copy_file_range")


def _copy_by_kernel(source: FileIO, start: int, stop: int, output: int) -> int:
    """Let the kernel copy a piece, and return its size; 0 where it cannot."""
    # A whole block can be shared with its source (see block_sharing.py), so what is before one goes alone.
    size = min(stop - start, BLOCK_BYTES - start % BLOCK_BYTES if start % BLOCK_BYTES else _COPY_BYTES)
    try:
        return os.copy_file_range(source.fileno(), output, size, start)
    except OSError as error:
        if _kernel_cannot_copy(error):
            return 0
        raise


def _open_source(path: Path) -> FileIO:
    """Open a file to read, so that its own absence is not told as the output's."""
    try:
        return FileIO(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}") from None


def _kernel_cannot_copy(error: OSError) -> bool:
    # Between file systems, on some of them, and in sandboxes; anything else is a real failure.
    return error.errno in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)


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
