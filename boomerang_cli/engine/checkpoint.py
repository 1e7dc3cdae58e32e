"""A model on disk, read from its headers: configuration, and where the bytes of each tensor lie."""

from __future__ import annotations

import json
import os
import struct
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path, PurePath
from typing import Any

from boomerang_cli.engine.errors import CheckpointError, ModelNotFoundError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
CONFIG_FILE = "config.json"
BUILTIN_DEMO = "builtin:demo"
"""The small teacher that ships inside the package."""

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
class SourceFile:
    """A file as it was when its header was read, so that a later change can be noticed."""

    path: Path
    size_bytes: int
    modified_ns: int


@dataclass(frozen=True)
class Tensor:
    """One tensor of a safetensors file: ``start`` and ``stop`` are offsets in bytes from the file's beginning."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: SourceFile
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


@dataclass(frozen=True)
class Checkpoint:
    """A folder with ``config.json`` and safetensors files.

    Attributes:
        name: the model argument as it should be recorded: a Hub id, or an absolute path.
        revision: the Hub commit, if it came from the Hub.
        config: ``config.json`` as it stands, so that it can be written again without loss.
        tensors: by name, as named on disk.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    revision: str | None = None

    @cached_property
    def main_dtype(self) -> str:
        """The floating-point dtype that holds most of the bytes."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors.values():
            if tensor.is_float:
                sizes[tensor.dtype] += tensor.size_bytes
        if not sizes:
            raise CheckpointError(f"{self.name} holds no floating-point weights")
        return sizes.most_common(1)[0][0]


def open_checkpoint(model: str | Path) -> Checkpoint:
    """Open a local folder, ``owner/name[@revision]`` on the Hub, or ``builtin:demo``; no tensor data is read.

    Raises:
        ModelNotFoundError: no such folder or repository.
        CheckpointError: files that are missing, corrupt, or contradict each other.
    """
    if str(model) == BUILTIN_DEMO:
        return read_checkpoint(Path(__file__).parents[1] / "demo" / "teacher", name=BUILTIN_DEMO)
    path = Path(model).expanduser()
    if path.is_dir():
        return read_checkpoint(path.resolve())
    if path.exists():
        raise ModelNotFoundError(f"{model} is a file: give the model's folder")
    from boomerang_cli.engine import hub

    if not hub.is_repo_id(str(model)):
        raise ModelNotFoundError(f"no model at {model}: neither a folder nor a Hub id (owner/name[@revision])")
    snapshot = hub.download(str(model))
    return read_checkpoint(snapshot.folder, name=snapshot.repo_id, revision=snapshot.revision)


def read_checkpoint(folder: Path, *, name: str | None = None, revision: str | None = None) -> Checkpoint:
    """Read the headers of a local folder (errors as in :func:`open_checkpoint`)."""
    name = name or str(folder)
    config = read_json(folder / CONFIG_FILE)
    if (folder / INDEX_FILE).exists():
        tensors = _read_sharded(folder)
    elif (folder / SINGLE_FILE).exists():
        tensors = read_header(folder / SINGLE_FILE)
    else:
        raise CheckpointError(f"{name} has no {SINGLE_FILE}{_pickle_hint(folder)}")
    return Checkpoint(name=name, folder=folder, config=config, tensors=tensors, revision=revision)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: the file is missing, not JSON, or not an object.
    """
    content = read_json_value(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not a {type(content).__name__}")
    return content


def read_json_value(path: Path) -> Any:
    """Read whatever JSON a file holds (errors as in :func:`read_json`)."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} has no {path.name}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None


def read_header(path: Path) -> dict[str, Tensor]:
    """Read the header of one safetensors file, and check that its tensors tile the file exactly.

    Raises:
        CheckpointError: whatever keeps the file from being whole and well formed.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            size = status.st_size
            length = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))[0]
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise CheckpointError(f"{path} is truncated: its {size} bytes cannot hold its {length}-byte header")
            raw = file.read(length)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        source = SourceFile(path, size, status.st_mtime_ns)
        tensors = [_read_entry(source, name, entry, 8 + length) for name, entry in header.items()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CheckpointError(f"{path} has a header that is not safetensors JSON") from None
    _check_tiling(path, tensors, 8 + length, size)
    return {tensor.name: tensor for tensor in tensors}


def _read_entry(file: SourceFile, name: str, entry: dict[str, Any], data_start: int) -> Tensor:
    dtype, shape = str(entry["dtype"]), tuple(int(extent) for extent in entry["shape"])
    start, stop = (data_start + int(offset) for offset in entry["data_offsets"])
    if dtype not in DTYPE_BYTES:
        raise CheckpointError(f"{file.path}: {name} has the dtype {dtype}, which boomerang cannot move")
    if any(extent < 0 for extent in shape) or stop - start != prod(shape) * DTYPE_BYTES[dtype]:
        raise CheckpointError(f"{file.path}: {name} has {stop - start} bytes for shape {list(shape)} of {dtype}")
    return Tensor(name, dtype, shape, file, start, stop)


def _check_tiling(path: Path, tensors: list[Tensor], data_start: int, size: int) -> None:
    position = data_start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.stop)):
        if tensor.start != position:
            what = "overlaps the tensor before it" if tensor.start < position else "leaves a gap before it"
            raise CheckpointError(f"{path}: {tensor.name} {what} (offset {tensor.start}, expected {position})")
        position = tensor.stop
    if position != size:
        what = "truncated" if position > size else "too long"
        raise CheckpointError(f"{path} is {what}: {size} bytes, its header describes {position}")


def _read_sharded(folder: Path) -> dict[str, Tensor]:
    index = folder / INDEX_FILE
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map")
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(map(str, weight_map.values()))):
        if shard in ("", ".", "..") or PurePath(shard).name != shard or "\\" in shard:
            raise CheckpointError(f"{index} names a file outside the folder: {shard!r}")
        if not (folder / shard).is_file():
            raise CheckpointError(f"{index} names {shard}, which is missing")
        for name, tensor in read_header(folder / shard).items():
            if weight_map.get(name) != shard:
                raise CheckpointError(f"{folder / shard} holds {name}, which {INDEX_FILE} puts elsewhere")
            tensors[name] = tensor
    if missing := weight_map.keys() - tensors.keys():
        raise CheckpointError(f"{index} names {len(missing)} tensors that no file holds, {min(missing)} first")
    return tensors


def _pickle_hint(folder: Path) -> str:
    if not any(folder.glob("*.bin")):
        return f" and no {INDEX_FILE}"
    return ", only pickled weights, which are never read: convert them to safetensors first"
