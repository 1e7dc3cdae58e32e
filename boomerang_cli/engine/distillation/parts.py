"""The tensors of a checkpoint in files, one a process: a tensor is its parts' rows, one after another.

torch.distributed.checkpoint's own files hold a pickle, which could run code when a training is moved between people;
its safetensors files are made whole in memory, and read without a word where one is missing. So a part is a plain
safetensors file, written tensor by tensor, and any number of processes can read what rows they hold of all parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor, Shard

from boomerang_cli.engine.checkpoint.tensors import Tensor, read_header
from boomerang_cli.engine.errors import CheckpointError, TrainingError
from boomerang_cli.engine.models.tensor_files import STORED_DTYPES, read_rows, write_tensors
from boomerang_cli.engine.processes.group import all_values, processes, rank


def check_seen_by_all(folder: Path) -> None:
    """Refuse a folder that a process of another machine, which is to write its part there, does not see.

    Raises:
        TrainingError: one does not.
    """
    if not all(all_values(folder.is_dir())):
        raise TrainingError(f"{folder} is not there for all processes: give an --output on a disk that machines share")


def part_name(number: int, parts: int) -> str:
    return f"training-{number + 1:05}-of-{parts:05}.safetensors"


def write_part(folder: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    """Write what this process holds of tensors, which are split, or the same in all processes.

    Raises:
        OSError: the disk is full, or may not be written.
        TrainingError: an optimiser's tensor of a kind that safetensors files cannot hold.
    """
    path = folder / part_name(rank(), processes())
    own = {name: _own(tensor) for name, tensor in tensors.items() if isinstance(tensor, DTensor) or rank() == 0}
    for name, tensor in own.items():
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
            raise TrainingError(f"{name} is a {type(tensor).__name__}, which no checkpoint can hold")
    write_tensors(path, {name: (tensor.dtype, tensor.shape) for name, tensor in own.items()}, own.items())
    return path


class Parts:
    """The tensors of a checkpoint, by the headers of all its parts.

    Args:
        count: the number of processes that wrote it.

    Raises:
        TrainingError: a part is missing or damaged.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._rows: dict[str, list[Tensor]] = {}
        for number in range(count):
            try:
                header = read_header(folder / part_name(number, count))
            except CheckpointError as error:
                raise TrainingError(f"{error}; start anew with --overwrite") from None
            for name, tensor in header.items():
                self._rows.setdefault(name, []).append(tensor)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def whole(self, name: str) -> torch.Tensor:
        """Return a tensor that is not split (errors as in :meth:`restore`)."""
        return self._read(name, 0, None)

    def restore(self, name: str, target: torch.Tensor) -> None:
        """Fill what this process holds of ``target``.

        Raises:
            TrainingError: the checkpoint holds no such tensor, of another shape, or cannot be read.
        """
        rows = self._rows.get(name, [])
        found = [sum(part.shape[0] for part in rows), *rows[0].shape[1:]] if rows and rows[0].shape else []
        if not rows or found != list(target.shape) or rows[0].dtype != STORED_DTYPES[target.dtype]:
            raise TrainingError(
                f"{self._folder} holds no {name} of {list(target.shape)}, but {found if rows else 'nothing'}: "
                "it is of another model; start anew with --overwrite"
            )
        own = _own(target)
        start, stop = _own_rows(target)
        with torch.no_grad():
            own.copy_(self._read(name, start, stop))

    def _read(self, name: str, start: int, stop: int | None) -> torch.Tensor:
        """Return rows of a tensor; of a scalar, or to no end, all."""
        pieces, position = [], 0
        try:
            for part in self._rows[name]:
                if not part.shape or stop is None:
                    pieces.append(read_rows(part))
                    continue
                first, last = max(start, position), min(stop, position + part.shape[0])
                if first < last:
                    pieces.append(read_rows(part, first - position, last - position))
                position += part.shape[0]
            empty = self._rows[name][0]
            return torch.cat(pieces) if len(pieces) > 1 else pieces[0] if pieces else read_rows(empty, 0, 0)
        except CheckpointError as error:
            raise TrainingError(f"{error}; start anew with --overwrite") from None


def _own(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _own_rows(tensor: torch.Tensor) -> tuple[int, int | None]:
    """Return which rows of a tensor this process holds, as FSDP2 deals them out; all of one that is not split."""
    if not isinstance(tensor, DTensor):
        return 0, tensor.shape[0] if tensor.dim() else None
    assert tensor.placements == (Shard(0),), f"split by {tensor.placements}"
    each = -(-tensor.shape[0] // tensor.device_mesh.size())
    start = min(tensor.shape[0], tensor.device_mesh.get_local_rank() * each)
    stop = min(tensor.shape[0], start + each)
    assert tensor.to_local().shape[0] == stop - start
    return start, stop
