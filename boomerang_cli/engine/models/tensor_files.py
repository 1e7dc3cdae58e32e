"""Tensors in safetensors files, read by rows and written one by one: no file stands whole in memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any

import torch

from boomerang_cli.engine.checkpoint.files import SourceFile
from boomerang_cli.engine.checkpoint.tensors import DTYPE_BYTES, Tensor
from boomerang_cli.engine.errors import CheckpointError

TORCH_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F64": torch.float64,
    "C64": torch.complex64,
}
if hasattr(torch, "float8_e8m0fnu"):  # since torch 2.7
    TORCH_DTYPES["F8_E8M0"] = torch.float8_e8m0fnu
STORED_DTYPES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


class LazyTensor:
    """A tensor of a file as transformers slices it before it reads: only the rows that are asked for are read.

    It stands in for what ``safetensors.safe_open`` gives, whose memory map counts as this process's memory, and whose
    errors name no file.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def get_shape(self) -> list[int]:
        return list(self._tensor.shape)

    def get_dtype(self) -> str:
        return self._tensor.dtype

    def __getitem__(self, index: Any) -> torch.Tensor:
        """Read a slice of each dimension, or with ``...`` all (errors as in :func:`read_rows`)."""
        if index is Ellipsis or not self._tensor.shape:
            return read_rows(self._tensor)
        first, *others = index if isinstance(index, tuple) else (index,)
        start, stop, step = first.indices(self._tensor.shape[0])
        assert step == 1
        return read_rows(self._tensor, start, max(start, stop))[(slice(None), *others)]


def read_rows(tensor: Tensor, start: int = 0, stop: int | None = None) -> torch.Tensor:
    """Read the rows ``start`` to ``stop`` of a tensor's first dimension, by default all, into memory of their own.

    Raises:
        CheckpointError: the file is gone, cannot be read, or is another than its header was read from.
    """
    assert isinstance(tensor.file, SourceFile)  # models are downloaded before they are loaded
    first, rest = (tensor.shape[0], tensor.shape[1:]) if tensor.shape else (1, ())
    stop = first if stop is None else stop
    shape = (stop - start, *rest) if tensor.shape else ()
    row_bytes = prod(rest) * DTYPE_BYTES[tensor.dtype]
    data = torch.empty((stop - start) * row_bytes, dtype=torch.uint8)
    if len(data):
        _read_into(data.numpy().data, tensor.file, tensor.start + start * row_bytes)
    return data.view(TORCH_DTYPES[tensor.dtype]).view(shape)


def _read_into(data: memoryview, file: SourceFile, start: int) -> None:
    try:
        with FileIO(file.path) as opened:
            opened.seek(start)
            while data and (size := opened.readinto(data)):  # the system returns at most 2 GiB at once
                data = data[size:]
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}") from None
    if data or not file.is_unchanged():
        raise CheckpointError(f"{file} changed while it was read: run the command again")


def write_tensors(
    path: Path, described: Mapping[str, tuple[torch.dtype, torch.Size]], tensors: Iterable[tuple[str, torch.Tensor]]
) -> None:
    """Write a safetensors file; each tensor is asked for when the one before it has been written.

    Args:
        described: dtype and shape of all tensors, in the order in which they will come.

    Raises:
        OSError: the disk is full, or may not be written.
    """
    header, position = {}, 0
    for name, (dtype, shape) in described.items():
        stop = position + shape.numel() * dtype.itemsize
        entry = {"dtype": STORED_DTYPES[dtype], "shape": list(shape), "data_offsets": [position, stop]}
        header[name], position = entry, stop
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb", buffering=0) as output:
        _write(output, memoryview(struct.pack("<Q", len(text)) + text))
        for (name, what), (found, tensor) in zip(described.items(), tensors, strict=True):
            assert (found, tensor.dtype, tensor.shape) == (name, *what), f"{found} comes in place of {name}"
            if tensor.numel():
                _write(output, tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)


def _write(output: FileIO, data: memoryview) -> None:
    while data:
        data = data[output.write(data) :]
