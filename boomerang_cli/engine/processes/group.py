"""The processes of one command: how many there are, which of them this is, and how they come to one answer."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as distributed

from boomerang_cli.engine.errors import BoomerangError
from boomerang_cli.engine.processes.launch import is_launched

Result = TypeVar("Result")


_PATIENCE = timedelta(days=365)
"""With another process, which may be at work for hours; that one was lost is ``failing_together``'s to find out."""


def connect() -> None:
    """Meet the processes that torchrun started together with this one, over gloo: they exchange little."""
    if is_launched() and not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=_PATIENCE)


def is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def rank() -> int:
    return distributed.get_rank() if is_distributed() else 0


def processes() -> int:
    return distributed.get_world_size() if is_distributed() else 1


def local_processes() -> int:
    """Return how many of them share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", processes())) if is_distributed() else 1


def disconnect() -> None:
    """Leave the other processes, where all of them are done; NCCL would complain at exit of one that does not."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def group_for_questions() -> distributed.ProcessGroup | None:
    """Return a group over gloo, for what processes ask one another: NCCL would wait for all work on the device."""
    return distributed.new_group(backend="gloo") if is_distributed() else None


def in_turns(load: Callable[[], Result]) -> Result:
    """Run ``load`` in one process of each machine after the other.

    A model is whole in host memory only between its loading and its sharding: in turns, one copy stands there at a
    time, not one a process.
    """
    if not is_distributed():
        return load()
    result: Result | None = None
    for turn in range(local_processes()):
        if turn == int(os.environ.get("LOCAL_RANK", rank())):
            result = load()
        distributed.barrier()
    assert result is not None
    return result


def decide(function: Callable[[], Result], group: distributed.ProcessGroup | None = None) -> Result:
    """Let rank 0 alone read, write and decide; every process gets its answer, or raises its error."""
    if not is_distributed():
        return function()
    answer: list[Any] = [None, None]
    if rank() == 0:
        try:
            answer[0] = function()
        except BoomerangError as error:
            answer[1] = error
    distributed.broadcast_object_list(answer, group=group)
    if answer[1] is not None:
        raise answer[1]
    return cast(Result, answer[0])


def all_values(value: Result, group: distributed.ProcessGroup | None = None) -> list[Result]:
    """Return the value that each process has, in the order of their ranks."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * processes()
    distributed.all_gather_object(values, value, group=group)
    return values


def as_told_by(teller: int, value: Result, group: distributed.ProcessGroup | None = None) -> Result:
    """Return the ``value`` that one process has, in all of them."""
    if not is_distributed():
        return value
    told = [value]
    distributed.broadcast_object_list(told, src=teller, group=group)
    return told[0]


def agree_on_largest(value: int, group: distributed.ProcessGroup | None = None) -> int:
    """Return the largest ``value`` of all processes."""
    if not is_distributed():
        return value
    tensor = torch.tensor([value], dtype=torch.int64, device=_device_of(group))
    distributed.all_reduce(tensor, op=distributed.ReduceOp.MAX, group=group)
    return int(tensor.item())


def _device_of(group: distributed.ProcessGroup | None) -> torch.device:
    if distributed.get_backend(group) == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
