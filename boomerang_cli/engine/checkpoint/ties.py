"""Whether a model's head is its embedding matrix, as transformers 5.23 decides it: by configuration and by files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.files import File, RemoteFile
from boomerang_cli.engine.checkpoint.tensors import Tensor
from boomerang_cli.engine.errors import CheckpointError, UnsupportedModelError

_FIRST_BYTES = 2**16
"""Compared before the rest: two matrices that differ at all nearly always differ here."""
_PIECE_BYTES = 4 * 2**20


def is_tied(config: Mapping[str, Any], family: Family) -> bool:
    """Tell whether a configuration uses the embedding matrix as the head.

    Raises:
        UnsupportedModelError: it does not say so with true or false.
    """
    tied = config.get("tie_word_embeddings", family.tied_by_default)
    if family.wrapper and family.wrapper.tied_text is not None and tied is False:
        tied = family.text_config(config).get("tie_word_embeddings", family.wrapper.tied_text)
    if not isinstance(tied, bool):  # readers disagree about "false" and null
        raise UnsupportedModelError(f"config.json has no usable tie_word_embeddings: {tied!r}")
    if tied and not family.ties:  # some readers go by config.json, others by the class
        raise UnsupportedModelError(
            f"config.json has tie_word_embeddings, and no {config['model_type']} model is tied: set it to false"
        )
    return tied


def has_own_head(tensors: Mapping[str, Tensor], family: Family) -> bool:
    """Tell whether files hold a head that differs from their embedding: transformers uses it whatever config.json says.

    Raises:
        CheckpointError: the two cannot be read to be compared.
        HubError: they are on the Hub, which refuses or fails.
    """
    embedding, head = tensors.get(family.embedding), tensors.get(family.head)
    return embedding is not None and head is not None and not hold_the_same(embedding, head)


@lru_cache(maxsize=16)
def hold_the_same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors are equal byte for byte, of one dtype and shape (errors as above)."""
    return all(_compared(one, other))


def begin_alike(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors are of one dtype and shape, and equal in their first bytes (errors as above)."""
    return all(islice(_compared(one, other), 2))


def _compared(one: Tensor, other: Tensor) -> Iterator[bool]:
    """Yield whether dtype and shape are equal, then whether piece after piece is."""
    yield (one.dtype, one.shape) == (other.dtype, other.shape)
    read_one, read_other = reader_of(one.file), reader_of(other.file)
    start, piece = 0, _FIRST_BYTES
    while start < one.size_bytes:
        stop = min(start + piece, one.size_bytes)
        yield read_one(one.start + start, one.start + stop) == read_other(other.start + start, other.start + stop)
        start, piece = stop, _PIECE_BYTES


def without_head_copy(tensors: Mapping[str, Tensor], config: Mapping[str, Any], family: Family) -> dict[str, Tensor]:
    """Leave out the head of a tied model that begins like its embedding: taken for a copy that nobody needs to read.

    A look at a model is not worth reading two matrices of a gigabyte; what is written compares them to the end.
    """
    head = tensors.get(family.head)
    embedding = next((tensors[name] for name in tensors if family.embedding.endswith(name)), None)
    if head is None or embedding is None or not is_tied(config, family) or not begin_alike(embedding, head):
        return dict(tensors)
    return {name: tensor for name, tensor in tensors.items() if tensor is not head}


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
