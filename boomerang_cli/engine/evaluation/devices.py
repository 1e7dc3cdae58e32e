"""The devices that a process computes on, and the dtype that suits them."""

from __future__ import annotations

import os

import torch

from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.pair_bytes import computed_dtype
from boomerang_cli.engine.processes.group import is_distributed, local_processes
from boomerang_cli.engine.processes.launch import check_gpus
from boomerang_cli.engine.processes.machine import check_for_gpus


def own_devices(name: str, gpus: int | None = None) -> tuple[torch.device, ...]:
    """Return the devices of this process: one, or ``gpus`` of them; of several processes on a machine each its share.

    Args:
        name: torch's, or ``auto``: a GPU where there is one, else the CPU.

    Raises:
        ProcessError: fewer GPUs than ``gpus``, or another device.
        ScoringError: torch has no such device here.
    """
    if gpus is not None:
        check_for_gpus(name, gpus=gpus)
        check_gpus(gpus)
        return tuple(torch.device("cuda", index) for index in range(gpus))
    device = choose_device(name)
    if device.type != "cuda" or device.index is not None or not is_distributed():
        return (device,)
    there = torch.cuda.device_count()
    share = max(1, there // local_processes())
    first = int(os.environ.get("LOCAL_RANK", "0")) * share % there
    return tuple(torch.device("cuda", index) for index in range(first, first + share))


def choose_device(name: str) -> torch.device:
    """Return the device of a name, or for ``auto`` the best there is.

    Raises:
        ScoringError: torch has no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ScoringError(f"--device {name} is none of torch's: give cpu or cuda", usage=True) from None
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ScoringError(f"--device {name} is not there: give cpu, or leave it out") from None
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of a name, as ``pair_bytes.computed_dtype`` means it."""
    dtype: torch.dtype = getattr(torch, computed_dtype(name, device.type))
    return dtype
