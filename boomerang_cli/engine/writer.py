"""A plan carried out: bytes moved from source files into a new model folder."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint import CONFIG_FILE, DTYPE_BYTES, INDEX_FILE, SourceFile
from boomerang_cli.engine.dtypes import convert
from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.output_folder import check_output, output_folder
from boomerang_cli.engine.plan import Copy, Plan, Shard

ByteProgress = Callable[[int, int], None]
"""Called with the bytes written so far, and all bytes to write."""

_COPY_BYTES = 64 * 2**20
"""At once by the kernel: between two such pieces progress is told."""
_CONVERT_BYTES = 4 * 2**20
_CONVERT_THREADS = 2
"""Pieces are converted side by side, and written in order; each holds a few times _CONVERT_BYTES."""


def write_model(plan: Plan, target: Path, *, overwrite: bool = False, on_progress: ByteProgress | None = None) -> None:
    """Write the model folder ``target``: the old state or the new one, never a part of it.

    Raises:
        OutputError: it exists, or cannot be written, or a source file changed while it was read.
    """
    check_output(target, overwrite=overwrite)
    _check_space(plan, target)
    with output_folder(target, overwrite=overwrite) as folder:
        write_files(plan, folder, on_progress=on_progress)


def write_files(plan: Plan, folder: Path, *, on_progress: ByteProgress | None = None) -> None:
    """Write all files of a plan into an existing, empty folder (errors as in :func:`write_model`)."""
    progress = _Progress(plan.size_bytes, on_progress)
    for shard in plan.shards:
        _write_shard(shard, folder / shard.file, progress)
    if len(plan.shards) > 1:
        _write_json(folder / INDEX_FILE, _index(plan))
    _write_json(folder / CONFIG_FILE, dict(plan.config))
    for companion in plan.companions:
        shutil.copyfile(companion, folder / companion.name)
    for name, content in plan.documents.items():
        (folder / name).write_text(content, encoding="utf-8")
    _check_unchanged({copy.source.file for copy in plan.copies})


def as_json_text(content: Any) -> str:
    """Return JSON as the field's tools write it, two spaces deep."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


class _Progress:
    def __init__(self, total: int, callback: ByteProgress | None) -> None:
        self._done, self._total, self._callback = 0, total, callback
        self.add(0)

    def add(self, size: int) -> None:
        self._done += size
        if self._callback:
            self._callback(self._done, self._total)


def _check_space(plan: Plan, target: Path) -> None:
    parent = next(folder for folder in target.absolute().parents if folder.exists())
    free = shutil.disk_usage(parent).free
    if plan.size_bytes > free:
        raise OutputError(
            f"{target} needs {plan.size_bytes:,} bytes, and {parent} has {free:,} free: "
            "make room, or give another --output"
        )


def _write_shard(shard: Shard, path: Path, progress: _Progress) -> None:
    with path.open("wb", buffering=0) as output:
        output.write(_header(shard))
        for run in shard.runs:
            if run[0].converts:
                _write_converted(run[0], output.fileno(), progress)
            else:
                _copy_range(
                    run[0].source.file.path, run[0].source.start, run[-1].source.stop, output.fileno(), progress
                )


def _header(shard: Shard) -> bytes:
    """Return the file's beginning: the header's length, and the header, padded so that tensors start aligned."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for copy in shard.copies:
        shape, stop = list(copy.source.shape), position + copy.size_bytes
        header[copy.name] = {"dtype": copy.dtype, "shape": shape, "data_offsets": [position, stop]}
        position = stop
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _index(plan: Plan) -> dict[str, Any]:
    files = {copy.name: shard.file for shard in plan.shards for copy in shard.copies}
    return {"metadata": {"total_size": plan.size_bytes}, "weight_map": dict(sorted(files.items()))}


def _copy_range(source: Path, start: int, stop: int, output: int, progress: _Progress) -> None:
    """Append bytes ``start`` to ``stop`` of ``source``, in the kernel where it can."""
    with source.open("rb", buffering=0) as file:
        position, by_kernel = start, hasattr(os, "copy_file_range")
        while position < stop:
            size = min(stop - position, _COPY_BYTES)
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
            progress.add(moved)


def _kernel_cannot_copy(error: OSError) -> bool:
    import errno

    # Between file systems, on some of them, and in sandboxes; anything else is a real failure.
    return error.errno in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)


def _write_converted(copy: Copy, output: int, progress: _Progress) -> None:
    """Append one tensor in another dtype, piece by piece."""
    source, name = copy.source, copy.source.name
    width = DTYPE_BYTES[source.dtype]
    with source.file.path.open("rb", buffering=0) as file, ThreadPoolExecutor(_CONVERT_THREADS) as pool:

        def piece(start: int) -> memoryview:
            size = min(source.stop - start, _CONVERT_BYTES // width * width)
            data = os.pread(file.fileno(), size, start)
            if len(data) < size:
                raise OutputError(f"{source.file.path} became shorter while it was read")
            return convert(memoryview(data), source.dtype, copy.dtype, name)

        starts = range(source.start, source.stop, _CONVERT_BYTES // width * width)
        for converted in _in_order(pool, piece, starts):
            progress.add(_write_all(output, converted))


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


def _write_json(path: Path, content: Any) -> None:
    path.write_text(as_json_text(content), encoding="utf-8")


def _check_unchanged(files: set[SourceFile]) -> None:
    for file in files:
        status = file.path.stat()
        if (status.st_size, status.st_mtime_ns) != (file.size_bytes, file.modified_ns):
            raise OutputError(f"{file.path} changed while it was read: run the command again")
