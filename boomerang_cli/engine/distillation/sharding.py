"""Models split over processes with FSDP2: each decoder layer is a unit, what is left is the root's."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import TypeVar

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from boomerang_cli.engine.processes.group import processes

Result = TypeVar("Result")


def shard(model: nn.Module, layers: nn.ModuleList, device: torch.device, *, offload: bool = False) -> None:
    """Split a model's parameters over all processes, in place, and move its part to ``device``.

    Gradients are averaged over the processes. A process holds one whole layer at a time beside the root's own
    parameters: embedding, final norm, head.

    Args:
        offload: leave the process's part, its gradients and so their optimiser in host memory.
    """
    policy = CPUOffloadPolicy(pin_memory=device.type != "cpu") if offload else OffloadPolicy()
    mesh = init_device_mesh(device.type, (processes(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh, offload_policy=policy)
    fully_shard(model, mesh=mesh, offload_policy=policy)
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


def own_parameters(model: nn.Module) -> int:
    """Return how many of a model's parameters this process holds: all of them where it is not split."""
    return sum(
        (parameter.to_local() if isinstance(parameter, DTensor) else parameter).numel()
        for parameter in model.parameters()
    )


def _call(model: nn.Module, function: Callable[[], Result]) -> Result:
    return function()
