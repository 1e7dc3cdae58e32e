"""How a pair is put on GPUs: whole on each, or its layers spread over as many as it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.devices import choose_dtype
from boomerang_cli.engine.evaluation.pair_bytes import PairBytes
from boomerang_cli.engine.models.places import Places
from boomerang_cli.engine.pair.pair import Pair, open_pair
from boomerang_cli.engine.processes.group import is_distributed, processes
from boomerang_cli.engine.processes.launch import check_gpus
from boomerang_cli.engine.sizes import show_bytes


def processes_on(
    gpus: int,
    student: str | Path | None = None,
    teacher: str | Path | None = None,
    *,
    keep: Sequence[int] | None = None,
    dtype: str = "auto",
) -> int:
    """Return how many processes score a pair on so many GPUs, each with as many of them as the pair needs.

    Raises:
        ProcessError: the machine has fewer GPUs.
        ScoringError: the pair does not fit them all together.
        ModelNotFoundError, CheckpointError, UnsupportedModelError, PairError, HubError: see ``pair.open_pair``.
    """
    check_gpus(gpus)
    pair = open_pair(student, teacher, keep=keep, download=False)
    needed = _devices_needed(pair, choose_dtype(dtype, torch.device("cuda")), [torch.device("cuda", 0)] * gpus)
    return gpus // needed


def _devices_needed(pair: Pair, dtype: torch.dtype, devices: Sequence[torch.device]) -> int:
    memory = torch.cuda.get_device_properties(devices[0]).total_memory
    size = _size_of(pair, dtype)
    needed = size.devices_needed(memory, len(devices))
    if needed is None:
        raise ScoringError(
            f"both models take {show_bytes(size.total)} in {str(dtype).removeprefix('torch.')}, and "
            f"{len(devices)} of the GPUs here, of {show_bytes(memory)}, hold less: give more --gpus, or --device cpu"
        )
    return needed


def _size_of(pair: Pair, dtype: torch.dtype) -> PairBytes:
    return PairBytes.of(pair, str(dtype).removeprefix("torch."))


def find_places(pair: Pair, dtype: torch.dtype, devices: Sequence[torch.device]) -> Places | None:
    """Return where this process puts the layers of its pair; None: all on the first of its devices, if that holds it.

    Raises:
        ScoringError: all of them together do not.
    """
    if len(devices) == 1 or (needed := _devices_needed(pair, dtype, devices)) == 1:
        return None
    return Places(devices[0], tuple(devices[place] for place in _size_of(pair, dtype).places(needed)))


def show_places(places: Places | None) -> str | None:
    """Say how devices and processes share the work; None if there is but one of both."""
    parts = []
    if places is not None:
        devices = dict.fromkeys(map(str, (places.first, *places.layers)))
        parts.append(f"layers of both models are spread over {', '.join(devices)}: one holds too little")
    if is_distributed():
        parts.append(
            f"{processes()} processes, each with both models, share windows of text (models, where windows are few), "
            "prompts and tasks; speed is measured in one of them"
        )
    return "; ".join(parts) or None
