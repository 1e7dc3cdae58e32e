"""The header of a safetensors file: which tensors it holds, and where the bytes of each lie."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.files import File, SourceFile, refuse_pointer
from boomerang_cli.engine.errors import CheckpointError

LENGTH_BYTES = 8
"""A file starts with its header's length, a little-endian number; tensors follow the header."""
BLOCK_BYTES = 4096
"""Of a disk: what file systems can share between files."""
MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors format: readers refuse a longer header."""
_LARGEST = 2**63 - 1

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


@dataclass(frozen=True, slots=True)
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
            return parse_header(opened.read(header_length(opened.read(LENGTH_BYTES), file)), file)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None


def header_length(beginning: bytes, file: File) -> int:
    """Return the length of a file's header, given at least the file's first 8 bytes (errors as in read_header)."""
    refuse_pointer(file, beginning[:LENGTH_BYTES])  # which as a number would be a header of 10^18 bytes
    length: int = struct.unpack("<Q", beginning[:LENGTH_BYTES].ljust(LENGTH_BYTES, b"\0"))[0]
    if file.size_bytes < LENGTH_BYTES or length > min(file.size_bytes - LENGTH_BYTES, MAX_HEADER_BYTES):
        raise CheckpointError(f"{file} is truncated: its {file.size_bytes} bytes cannot hold its {length}-byte header")
    return length


def parse_header(text: bytes, file: File) -> dict[str, Tensor]:
    """Return the tensors that a file's header describes (errors as in read_header)."""
    tensors: dict[str, Tensor] = {}
    shapes: dict[tuple[int, ...], tuple[int, ...]] = {}
    data_start = LENGTH_BYTES + len(text)
    try:
        decoded = text.decode()
        del text  # of a header of many megabytes, one form at a time
        for name, entry in _members(decoded):
            name.encode()  # half a surrogate pair, which only JSON's escapes can hold, is no name
            if name == "__metadata__":
                continue
            if name in tensors:
                raise CheckpointError(f"{file} describes {name} twice")
            tensors[name] = tensor = _read_entry(file, name, entry, data_start, shapes)
            shapes.setdefault(tensor.shape, tensor.shape)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise CheckpointError(f"{file} has a header that is not safetensors JSON") from None
    _check_tiling(tensors.values(), file, data_start)
    return tensors


def _members(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the members of a JSON object one by one: a long header read at once takes five times the memory.

    Raises:
        ValueError, IndexError, RecursionError: it is no JSON object.
    """
    decode, skip = json.JSONDecoder().raw_decode, re.compile(r"[ \t\n\r]*").match

    def expect(characters: str, position: int) -> int:
        position = _end(skip(text, position))
        if text[position] not in characters:
            raise ValueError(f"expected one of {characters}")
        return position

    position = expect("{", 0)
    if text[_end(skip(text, position + 1))] == "}":
        position = expect("}", position + 1)
    while text[position] != "}":
        name, position = decode(text, expect('"', position + 1))
        value, position = decode(text, _end(skip(text, expect(":", position) + 1)))
        yield name, value
        position = expect(",}", position)
    if text[position + 1 :].strip(" \t\n\r"):
        raise ValueError("something stands behind the header")


def _end(match: re.Match[str] | None) -> int:
    assert match is not None  # of a pattern that matches nothing, too
    return match.end()


def _read_entry(
    file: File, name: str, entry: dict[str, Any], data_start: int, shapes: dict[tuple[int, ...], tuple[int, ...]]
) -> Tensor:
    """Check one tensor's entry; of equal shapes one is kept."""
    dtype, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    for number in (*shape, first, last):
        if type(number) is not int or abs(number) > _LARGEST:  # JSON's true is an int to isinstance
            raise TypeError(f"{number!r} is no size")
    if dtype not in DTYPE_BYTES:
        raise CheckpointError(f"{file}: {name} has the dtype {dtype}, which boomerang cannot move")
    values = 1
    for extent in shape:
        values = min(values * extent, _LARGEST)  # a product of many large extents would take minutes
    if min(shape, default=0) < 0 or values * DTYPE_BYTES[dtype] != last - first:
        raise CheckpointError(f"{file}: {name} has {last - first} bytes for shape {list(shape)} of {dtype}")
    return Tensor(name, dtype, shapes.get(shape, shape), file, data_start + first, data_start + last)


def _check_tiling(tensors: Iterable[Tensor], file: File, data_start: int) -> None:
    position = data_start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.stop)):
        if tensor.start != position:
            what = "overlaps the tensor before it" if tensor.start < position else "leaves a gap before it"
            raise CheckpointError(f"{file}: {tensor.name} {what} (offset {tensor.start}, expected {position})")
        position = tensor.stop
    if position != file.size_bytes:
        what = "truncated" if position > file.size_bytes else "too long"
        raise CheckpointError(f"{file} is {what}: {file.size_bytes} bytes, its header describes {position}")
