"""The device that a training computes on: what it can do, what it is called, how much of its memory was taken."""

from __future__ import annotations

import resource
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def has_accelerator() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether the device itself computes in bfloat16."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which matrices are multiplied in bfloat16, where the device computes in it.

    A weight is cast where it is used and not kept, as a weight has one use in a forward pass: torch would keep the
    copies of a whole student until the pass ends, in each of the processes that hold a part of it, also of layers that
    gradient checkpointing runs again. Values are the same.
    """
    if not has_bfloat16(device):
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def free_memory_bytes(device: torch.device) -> int:
    """Return how much memory nobody holds: of the GPU, or of this machine."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    import psutil  # type: ignore[import-untyped]

    return int(psutil.virtual_memory().available)


def peak_memory_bytes() -> int:
    """Return the most that this process has held: of the GPU's memory, or resident memory without a GPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes if sys.platform == "darwin" else kibibytes * 1024  # macOS counts bytes
