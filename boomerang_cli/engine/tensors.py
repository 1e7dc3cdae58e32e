"""The header of a safetensors file: which tensors it holds, and where the bytes of each lie."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from boomerang_cli.engine.errors import CheckpointError
from boomerang_cli.engine.files import File, SourceFile

LENGTH_BYTES = 8
"""A file starts with its header's length, a little-endian number; tensors follow the header."""
BLOCK_BYTES = 4096
"""Of a disk: what file systems can share between files."""
MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors format: readers refuse a longer header."""

DTYPE_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
    "C64": 8,
}
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Tensor:
    """One tensor of a safetensors file: ``start`` and ``stop`` are offsets in bytes from the file's beginning."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: File
    start: int
    stop: int

    @property
    def parameters(self) -> int:
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.stop - self.start

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOAT_DTYPES


def read_header(path: Path) -> dict[str, Tensor]:
    """Read the header of one safetensors file of this disk, and check that its tensors tile the file exactly.

    Raises:
        CheckpointError: whatever keeps the file from being whole and well formed.
    """
    try:
        with path.open("rb") as opened:
            status = os.fstat(opened.fileno())
            file = SourceFile(path, status.st_size, status.st_mtime_ns)
            length = header_length(opened.read(LENGTH_BYTES), file)
            text = opened.read(length)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    return parse_header(text, file)


def header_length(beginning: bytes, file: File) -> int:
    """Return the length of a file's header, given at least the file's first 8 bytes (errors as in read_header)."""
    length: int = struct.unpack("<Q", beginning[:LENGTH_BYTES].ljust(LENGTH_BYTES, b"\0"))[0]
    if file.size_bytes < LENGTH_BYTES or length > min(file.size_bytes - LENGTH_BYTES, MAX_HEADER_BYTES):
        raise CheckpointError(f"{file} is truncated: its {file.size_bytes} bytes cannot hold its {length}-byte header")
    return length


def parse_header(text: bytes, file: File) -> dict[str, Tensor]:
    """Return the tensors that a file's header describes (errors as in read_header)."""
    data_start = LENGTH_BYTES + len(text)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        tensors = [_read_entry(file, name, entry, data_start) for name, entry in header.items()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CheckpointError(f"{file} has a header that is not safetensors JSON") from None
    _check_tiling(tensors, file, data_start)
    return {tensor.name: tensor for tensor in tensors}


def _read_entry(file: File, name: str, entry: dict[str, Any], data_start: int) -> Tensor:
    dtype, shape = str(entry["dtype"]), tuple(int(extent) for extent in entry["shape"])
    start, stop = (data_start + int(offset) for offset in entry["data_offsets"])
    if dtype not in DTYPE_BYTES:
        raise CheckpointError(f"{file}: {name} has the dtype {dtype}, which boomerang cannot move")
    if any(extent < 0 for extent in shape) or stop - start != prod(shape) * DTYPE_BYTES[dtype]:
        raise CheckpointError(f"{file}: {name} has {stop - start} bytes for shape {list(shape)} of {dtype}")
    return Tensor(name, dtype, shape, file, start, stop)


def _check_tiling(tensors: list[Tensor], file: File, data_start: int) -> None:
    position = data_start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.stop)):
        if tensor.start != position:
            what = "overlaps the tensor before it" if tensor.start < position else "leaves a gap before it"
            raise CheckpointError(f"{file}: {tensor.name} {what} (offset {tensor.start}, expected {position})")
        position = tensor.stop
    if position != file.size_bytes:
        what = "truncated" if position > file.size_bytes else "too long"
        raise CheckpointError(f"{file} is {what}: {file.size_bytes} bytes, its header describes {position}")
