"""Files laid out so that a copy shares the disk blocks of its source, where the file system can (XFS, btrfs).

The kernel's copy then writes nothing: a block of the output is a block of the source, until one of them changes. It can
only do so for bytes that stand at the same place within a block in both files. A header can be padded freely, so each
file can make that true for one run of tensors, and for those behind it that happen to fit; other runs get a file of
their own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from boomerang_cli.engine.checkpoint.files import SourceFile
from boomerang_cli.engine.checkpoint.tensors import BLOCK_BYTES
from boomerang_cli.engine.checkpoint.weights import SINGLE_FILE
from boomerang_cli.engine.output.plan import Plan
from boomerang_cli.engine.output.shards import Copy, Shard, shard_names
from boomerang_cli.engine.output.system_calls import share_block

_WORTH_A_FILE_BYTES = 8 * 2**20
"""A shorter run is copied where it stands: a file more costs readers more than it saves."""


def arrange_for_sharing(plan: Plan, target: Path) -> Plan:
    """Return the plan with its tensors in more files, if the disk of ``target`` can share blocks with the sources.

    The tensors, and their order, stay the same.
    """
    if any(copy.computes for copy in plan.copies) or not _can_share(plan, target):
        return plan
    split = [part for shard in plan.shards for part in _split(shard.runs)]
    names = shard_names(len(split))
    shards = (replace(part, file=name) for part, name in zip(split, names, strict=True))
    return replace(plan, shards=tuple(shards))


def _can_share(plan: Plan, target: Path) -> bool:
    """Try to share one block of the largest source with an unnamed file in the output's folder."""
    files = {copy.source.file for copy in plan.copies}
    largest = max(files, key=lambda file: file.size_bytes)
    if not isinstance(largest, SourceFile) or largest.size_bytes < BLOCK_BYTES:
        return False
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    try:
        with largest.path.open("rb") as source, tempfile.TemporaryFile(dir=folder) as output:
            share_block(source.fileno(), output.fileno(), BLOCK_BYTES)
    except OSError:
        return False  # also a folder that may not be written: the writer says so
    return os.statvfs(folder).f_frsize == BLOCK_BYTES


def _split(runs: Sequence[Sequence[Copy]]) -> list[Shard]:
    """Cut a file's runs into files in which each long run can be shared."""
    parts: list[list[Copy]] = [[]]
    offset: int | None = None  # where in a block the tensors of the last part start
    size = 0  # of the last part
    offsets: list[int | None] = []
    for run in runs:
        start = run[0].source.start
        # Tensors must stay aligned to 8 bytes; those of very old files are not, and cannot be shared.
        long = sum(copy.size_bytes for copy in run) >= _WORTH_A_FILE_BYTES and start % 8 == 0
        wanted = (start - size) % BLOCK_BYTES
        if long and offset is not None and wanted != offset:
            offsets.append(offset)
            parts.append([])
            size, offset = 0, start % BLOCK_BYTES
        elif long:
            offset = wanted
        parts[-1] += run
        size += sum(copy.size_bytes for copy in run)
    offsets.append(offset)
    return [
        Shard(SINGLE_FILE, tuple(part), offset_in_block=start)
        for part, start in zip(parts, offsets, strict=True)
        if part
    ]
