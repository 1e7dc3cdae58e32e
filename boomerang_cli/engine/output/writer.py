"""A plan carried out: bytes moved from source files into a new model folder."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boomerang_cli.engine.checkpoint.files import File, SourceFile
from boomerang_cli.engine.checkpoint.same_bytes import hold_the_same
from boomerang_cli.engine.checkpoint.tensors import BLOCK_BYTES, LENGTH_BYTES, MAX_HEADER_BYTES
from boomerang_cli.engine.checkpoint.weights import CONFIG_FILE, INDEX_FILE
from boomerang_cli.engine.errors import CheckpointError, OutputError
from boomerang_cli.engine.output.moves import Mover, copy_file
from boomerang_cli.engine.output.output_folder import check_output, output_folder
from boomerang_cli.engine.output.output_marker import Kind
from boomerang_cli.engine.output.plan import Plan, as_json_text, index_of
from boomerang_cli.engine.output.shards import Shard
from boomerang_cli.engine.output.system_calls import reserve

if TYPE_CHECKING:
    from boomerang_cli.engine.output.verify import Verification

ByteProgress = Callable[[int, int], None]
"""Called with the bytes written so far, and all bytes to write."""


def write_model(
    plan: Plan,
    target: Path,
    kind: Kind,
    *,
    verify: bool = False,
    overwrite: bool = False,
    durable: bool = False,
    on_progress: ByteProgress | None = None,
) -> Verification | None:
    """Write the model folder ``target``: the old state or the new one, never a part of it.

    Args:
        kind: what it is; with ``overwrite`` it replaces its like alone.
        verify: read it again and compare it with the plan before it takes its place; returns what was compared.
        durable: wait until it is on the disk, as is done in any case before another model is replaced.

    Raises:
        OutputError: it exists, or cannot be written, or a source file changed while it was read, or a byte is wrong.
        CheckpointError: two matrices that the plan presumes to be one are not equal.
        HubError: a part of it is on the Hub, which refuses or fails.
    """
    check_output(target, kind, overwrite=overwrite)
    _check_space(plan, target)
    _check_presumed(plan, on_progress)
    plan = plan.in_own_names()
    with output_folder(target, kind, overwrite=overwrite, durable=durable) as folder:
        write_files(plan, folder, on_progress=on_progress)
        if verify:
            from boomerang_cli.engine.output.verify import verify_model

            return verify_model(plan, folder, on_progress=on_progress)
    return None


def write_files(plan: Plan, folder: Path, *, on_progress: ByteProgress | None = None) -> None:
    """Write all files of a plan into an existing, empty folder (errors as in :func:`write_model`)."""
    progress = _Progress(plan.size_bytes, on_progress)
    for shard in plan.shards:
        _write_shard(shard, folder / shard.file, progress)
    if len(plan.shards) > 1:
        _write_json(folder / INDEX_FILE, index_of(plan))
    _write_json(folder / CONFIG_FILE, dict(plan.config))
    for companion in plan.companions:
        (folder / companion.name).parent.mkdir(exist_ok=True)
        copy_file(companion, folder / companion.name)
    for name, content in plan.documents.items():
        _write_text(folder / name, content)
    _check_unchanged({tensor.file for copy in plan.copies for tensor in copy.inputs})


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


def _check_presumed(plan: Plan, on_progress: ByteProgress | None) -> None:
    progress = _Progress(sum(one.size_bytes for one, _ in plan.presumed), on_progress if plan.presumed else None)
    for one, other in plan.presumed:
        if not hold_the_same(one, other, progress.add):
            raise CheckpointError(
                f"{other.name} of {other.file} is not the copy of {one.name} that samples of it are, though "
                "config.json ties them: give --download, and both are compared whole before the plan is made"
            )


def _write_shard(shard: Shard, path: Path, progress: _Progress) -> None:
    shares = shard.offset_in_block is not None
    with path.open("wb", buffering=0) as output, Mover(output.fileno(), progress.add, share_blocks=shares) as mover:
        header = _header(shard)
        if not shares:
            # Blocks found one by one, as bytes arrive, took a third of the time (ext4, Linux 6.18).
            reserve(output.fileno(), len(header) + shard.size_bytes)
        output.write(header)
        for run in shard.runs:
            first, last = run[0], run[-1]
            if first.computes:
                mover.compute(first.inputs, first.dtype, first.compute)
            else:
                mover.copy(first.source.file, first.source.start, last.source.stop)


def _header(shard: Shard) -> bytes:
    """Return the file's beginning: the header's length, and the header, padded so that tensors start aligned.

    They start at a multiple of 8 bytes, or where the shard wants it within a disk block.
    """
    text = f"{{{','.join(_members(shard))}}}".encode()
    if shard.offset_in_block is None:
        text += b" " * (-len(text) % 8)
    else:
        text += b" " * ((shard.offset_in_block - LENGTH_BYTES - len(text)) % BLOCK_BYTES)
    if len(text) > MAX_HEADER_BYTES:
        raise OutputError(f"{shard.file} holds too many tensors for one header: give a smaller --max-shard-size")
    return struct.pack("<Q", len(text)) + text


def _members(shard: Shard) -> Iterator[str]:
    """Yield the header's members one by one: of a hundred thousand tensors, at once, they take ten times the memory."""
    position = 0
    yield '"__metadata__":{"format":"pt"}'
    for copy in shard.copies:
        shape, stop = list(copy.source.shape), position + copy.size_bytes
        member = {copy.name: {"dtype": copy.dtype, "shape": shape, "data_offsets": [position, stop]}}
        yield json.dumps(member, separators=(",", ":"), ensure_ascii=False)[1:-1]
        position = stop


def _write_json(path: Path, content: Any) -> None:
    _write_text(path, as_json_text(content))


def _write_text(path: Path, text: str) -> None:
    # What has no UTF-8, half a surrogate pair or a path of other bytes, becomes the escape that JSON has for it.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _check_unchanged(files: set[File]) -> None:
    for file in files:
        if isinstance(file, SourceFile) and not file.is_unchanged():
            raise OutputError(f"{file} changed while it was read: run the command again")
