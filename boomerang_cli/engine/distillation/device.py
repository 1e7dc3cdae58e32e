"""The device that a training computes on: what it can do, what it is called, how much of its memory was taken."""

from __future__ import annotations

import resource
import sys

import torch


def has_accelerator() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether the device itself computes in bfloat16."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


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
