"""The machine that a plan is made for: this one, or one that somebody describes. Loads torch only to look at GPUs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boomerang_cli.engine.errors import ProcessError, check_least, flag_of
from boomerang_cli.engine.processes.launch import is_launched
from boomerang_cli.engine.sizes import parse_bytes

_DRIVERS = ("nvidia*", "nvmap", "kfd", "dxg")
"""Names in ``/dev`` where torch may find a GPU that it calls ``cuda``: NVIDIA's, Jetson's, AMD's, and in WSL any."""


@dataclass(frozen=True)
class Machine:
    """What a plan is made for.

    Attributes:
        gpus: how many the plan is for; 1 where it is the CPU.
        memory_bytes: of each GPU; of a CPU what is available.
    """

    gpus: int
    memory_bytes: int
    is_gpu: bool

    @classmethod
    def of(cls, gpus: int | None, gpu_memory: str | None, device: str = "auto") -> Machine:
        """Return the machine that somebody describes, else this one: a GPU of it, or under torchrun all.

        Args:
            device: torch's name, or ``auto``: a GPU where there is one, else the CPU.

        Raises:
            ProcessError: no GPU, or GPUs of an unknown size, or for another device.
            SelectionError: a size that is none.
        """
        check_least(1, ProcessError, gpus=gpus)
        check_for_gpus(device, gpus=gpus, gpu_memory=gpu_memory)
        if gpu_memory is not None:
            return cls(gpus or 1, parse_bytes(gpu_memory, "--gpu-memory"), is_gpu=True)
        is_gpu = device.startswith("cuda")
        if (is_gpu or device == "auto") and (found := _gpus_here()):
            return cls(gpus or (len(found) if is_launched() else 1), found[0], is_gpu=True)
        if is_gpu:
            raise ProcessError(f"--device {device} is not there: give cpu, or leave it out")
        if gpus is not None:
            raise ProcessError(
                f"--gpus {gpus}, and this machine has none: say with --gpu-memory 80GB how large they are"
            )
        import psutil  # type: ignore[import-untyped]

        return cls(1, int(psutil.virtual_memory().available), is_gpu=False)


def check_for_gpus(device: str, **given: int | str | None) -> None:
    """Refuse options that describe GPUs where the device is another.

    Args:
        given: by the parameters' names; None is not given.

    Raises:
        ProcessError: names the first of them.
    """
    for name, value in given.items():
        if value is not None and device not in ("auto", "cuda"):
            raise ProcessError(f"{flag_of(name)} {value} with --device {device}: leave one of them out", usage=True)


def check_for_plan(dry_run: bool, *, gpu_memory: str | None, **others: Any) -> None:
    """Refuse options of a plan where none is made, and GPUs of no size.

    Args:
        others: further options, by the parameters' names; None is not given.

    Raises:
        ProcessError: names the option.
        SelectionError: a size that is none.
    """
    given = [name for name, value in {"gpu_memory": gpu_memory, **others}.items() if value is not None]
    if given and not dry_run:
        raise ProcessError(f"{flag_of(given[0])} is for a plan: give --dry-run with it", usage=True)
    if gpu_memory is not None:
        parse_bytes(gpu_memory, "--gpu-memory")


def _gpus_here() -> list[int]:
    """Return the memory of each of this machine's GPUs; torch is not loaded where no driver is."""
    if "torch" not in sys.modules and not any(any(Path("/dev").glob(name)) for name in _DRIVERS):
        return []
    import torch

    return [torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count())]
