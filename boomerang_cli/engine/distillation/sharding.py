"""Models split over processes with FSDP2: each decoder layer is a unit, what is left is the root's."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import MethodType
from typing import Any, TypeVar, cast

import torch
import torch.distributed as distributed
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from boomerang_cli.engine.errors import BoomerangError

Result = TypeVar("Result")


def is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def rank() -> int:
    return distributed.get_rank() if is_distributed() else 0


def processes() -> int:
    return distributed.get_world_size() if is_distributed() else 1


def disconnect() -> None:
    """Leave the other processes, where all of them are done; NCCL would complain at exit of one that does not."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def in_turns(load: Callable[[], Result]) -> Result:
    """Run ``load`` in one process of each machine after the other.

    A model is whole in host memory only between its loading and its sharding: in turns, one copy stands there at a
    time, not one a process.
    """
    if not is_distributed():
        return load()
    result: Result | None = None
    for turn in range(int(os.environ.get("LOCAL_WORLD_SIZE", processes()))):
        if turn == int(os.environ.get("LOCAL_RANK", rank())):
            result = load()
        distributed.barrier()
    assert result is not None
    return result


def shard(model: nn.Module, layers: nn.ModuleList, device: torch.device) -> None:
    """Split a model's parameters over all processes, in place, and move its part to ``device``.

    Gradients are averaged over the processes. A process holds one whole layer at a time beside the root's own
    parameters: embedding, final norm, head.
    """
    mesh = init_device_mesh(device.type, (processes(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    # fully_shard moves parameters and the buffers that it manages; the root sees to the rest of them.
    model.call_with_whole_root = MethodType(_call, model)  # type: ignore[assignment]
    register_fsdp_forward_method(model, "call_with_whole_root")


def with_whole_root(model: nn.Module, function: Callable[[], Result]) -> Result:
    """Call ``function`` while the root's own parameters are whole tensors.

    The losses read the head's weight outside of ``model.forward``, where FSDP2 would leave it split.
    """
    if not isinstance(model, FSDPModule):
        return function()
    result: Result = model.call_with_whole_root(function)  # type: ignore[operator]
    return result


def split_root(model: nn.Module) -> None:
    """Give back the memory of the root's whole parameters, which FSDP2 keeps where no backward pass follows."""
    if isinstance(model, FSDPModule):
        model.reshard()


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


def _call(model: nn.Module, function: Callable[[], Result]) -> Result:
    return function()
