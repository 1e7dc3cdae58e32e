"""A written model, read again and compared with what its plan says: every byte, file by file."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from boomerang_cli.engine.checkpoint.checkpoint import read_checkpoint
from boomerang_cli.engine.checkpoint.files import RemoteFile, SourceFile
from boomerang_cli.engine.checkpoint.tensors import DTYPE_BYTES, Tensor
from boomerang_cli.engine.checkpoint.weights import CONFIG_FILE, INDEX_FILE
from boomerang_cli.engine.errors import BoomerangError, OutputError
from boomerang_cli.engine.output.output_marker import MARKER_FILE
from boomerang_cli.engine.output.plan import Plan, as_json_text, index_of
from boomerang_cli.engine.output.shards import Copy

_PIECE_VALUES = 2**20
"""Compared at once: a few megabytes of each file stand in memory."""


@dataclass(frozen=True)
class Verification:
    """What was compared, and found equal.

    Attributes:
        bytes: of tensors, in the output.
        unread_bytes: of tensors that were fetched from the Hub, and are not fetched a second time to be compared.
    """

    tensors: int
    bytes: int
    unread_bytes: int


def verify_model(plan: Plan, folder: Path, *, on_progress: Callable[[int, int], None] | None = None) -> Verification:
    """Compare a written model with its plan: files, headers, index, configuration, and each tensor with its source.

    Tensors that were computed are computed again.

    Raises:
        OutputError: the first difference.
    """
    try:
        written = read_checkpoint(folder)
    except BoomerangError as error:
        raise OutputError(f"the written model cannot be read again: {error}") from None
    _compare_files(plan, folder)
    _compare_headers(plan, written.tensors)
    compared, unread, total = 0, 0, plan.size_bytes
    for shard in plan.shards:
        for copy in shard.copies:
            if any(isinstance(tensor.file, RemoteFile) for tensor in copy.inputs):
                unread += copy.size_bytes
            else:
                _compare_tensor(copy, written.tensors[copy.name], folder / shard.file)
                compared += copy.size_bytes
            if on_progress:
                on_progress(compared + unread, total)
    return Verification(len(plan.copies), compared, unread)


def _compare_files(plan: Plan, folder: Path) -> None:
    texts = {CONFIG_FILE: as_json_text(dict(plan.config)), **plan.documents}
    if len(plan.shards) > 1:
        texts[INDEX_FILE] = as_json_text(index_of(plan))
    shards, companions = {shard.file for shard in plan.shards}, {file.name: file for file in plan.companions}
    planned = {*texts, *shards, *companions, *({name.rpartition("/")[0] for name in companions} - {""})}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")} - {MARKER_FILE}
    if difference := found ^ planned:
        raise OutputError(f"{folder} holds other files than planned: {', '.join(sorted(difference))}")
    for name, text in texts.items():
        if (folder / name).read_bytes() != text.encode("utf-8", "backslashreplace"):
            raise OutputError(f"{folder / name} is not as it was planned")
    for name, file in companions.items():
        if isinstance(file, SourceFile) and (folder / name).read_bytes() != file.path.read_bytes():
            raise OutputError(f"{folder / name} is not like {file}")


def _compare_headers(plan: Plan, written: dict[str, Tensor]) -> None:
    planned = {copy.name: (shard.file, copy.dtype, copy.source.shape) for shard in plan.shards for copy in shard.copies}
    found = {name: (tensor.file.name, tensor.dtype, tensor.shape) for name, tensor in written.items()}
    if difference := dict(planned.items() ^ found.items()):
        raise OutputError(f"the written model does not hold {min(difference)} as it was planned")


def _compare_tensor(copy: Copy, written: Tensor, output: Path) -> None:
    """Compare one tensor piece by piece, so that no more than a few pieces stand in memory."""
    width = DTYPE_BYTES[copy.dtype]
    with ExitStack() as stack:
        found = stack.enter_context(output.open("rb", buffering=0))
        inputs = [(tensor, stack.enter_context(_path(tensor).open("rb", buffering=0))) for tensor in copy.inputs]
        for first in range(0, copy.source.parameters, _PIECE_VALUES):
            count = min(copy.source.parameters - first, _PIECE_VALUES)
            pieces = [memoryview(_piece(tensor, opened.fileno(), first, count)) for tensor, opened in inputs]
            expected = copy.compute(*pieces) if copy.computes else pieces[0]
            if expected != os.pread(found.fileno(), count * width, written.start + first * width):
                raise OutputError(f"{output.name} does not hold {copy.name} as {_sources(copy)}")


def _piece(tensor: Tensor, opened: int, first: int, count: int) -> bytes:
    width = DTYPE_BYTES[tensor.dtype]
    data = os.pread(opened, count * width, tensor.start + first * width)
    if len(data) < count * width:
        raise OutputError(f"{tensor.file} became shorter while it was read")
    return data


def _path(tensor: Tensor) -> Path:
    assert isinstance(tensor.file, SourceFile)
    return tensor.file.path


def _sources(copy: Copy) -> str:
    names = [str(tensor.file) for tensor in copy.inputs]
    return f"{names[0]} does" if len(names) == 1 else f"the sum of {', '.join(names)} has it"
