"""How a pair is put on GPUs: whole on each, or its layers spread over as many as it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch

from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.devices import choose_dtype
from boomerang_cli.engine.models.places import Places
from boomerang_cli.engine.output.plan import OWNERS
from boomerang_cli.engine.pair.pair import Pair, open_pair
from boomerang_cli.engine.processes.group import is_distributed, processes
from boomerang_cli.engine.processes.launch import check_gpus
from boomerang_cli.engine.sizes import show_bytes

ROOM = 0.8
"""The share of a GPU's memory for weights. Hidden states and logits, whose batch shrinks to fit, take the rest."""


@dataclass(frozen=True)
class PairBytes:
    """What both models take in memory.

    Attributes:
        beside: all that is beside layers.
        layers: of each layer of the teacher, with the student's that stands for it.
    """

    beside: int
    layers: tuple[int, ...]

    @classmethod
    def of(cls, pair: Pair, dtype: torch.dtype) -> PairBytes:
        """Count from headers; what a family keeps in float32 is counted as the rest."""
        parts, kept = pair.parts, pair.layer_map.kept
        layers = [sum(tensor.parameters for tensor in layer.values()) for layer in parts["teacher"].layers]
        for index, layer in zip(kept, parts["student"].layers, strict=True):
            layers[index] += sum(tensor.parameters for tensor in layer.values())
        beside = sum(parts[owner].parameters for owner in OWNERS) - sum(layers)
        return cls(beside * dtype.itemsize, tuple(each * dtype.itemsize for each in layers))

    @property
    def total(self) -> int:
        return self.beside + sum(self.layers)

    def places(self, devices: int) -> tuple[int, ...]:
        """Return on which of so many devices each layer stands, in order, so that all hold about as much.

        What is beside layers stands on the first.
        """
        ends = accumulate(self.layers, initial=self.beside)
        middles = (end + size / 2 for end, size in zip(ends, self.layers, strict=False))
        return tuple(min(devices - 1, int(middle * devices / self.total)) for middle in middles)

    def largest(self, devices: int) -> int:
        """Return what the fullest of so many devices holds."""
        held = [self.beside, *[0] * (devices - 1)]
        for place, size in zip(self.places(devices), self.layers, strict=True):
            held[place] += size
        return max(held)

    def devices_needed(self, memory_bytes: int, at_most: int) -> int | None:
        """Return the least number of devices of this memory that hold the pair, or None."""
        fitting = (count for count in range(1, at_most + 1) if self.largest(count) <= ROOM * memory_bytes)
        return next(fitting, None)


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
    size = PairBytes.of(pair, dtype)
    needed = size.devices_needed(memory, len(devices))
    if needed is None:
        raise ScoringError(
            f"both models take {show_bytes(size.total)} in {str(dtype).removeprefix('torch.')}, and "
            f"{len(devices)} of the GPUs here, of {show_bytes(memory)}, hold less: give more --gpus, or --device cpu"
        )
    return needed


def find_places(pair: Pair, dtype: torch.dtype, devices: Sequence[torch.device]) -> Places | None:
    """Return where this process puts the layers of its pair; None: all on the first of its devices, if that holds it.

    Raises:
        ScoringError: all of them together do not.
    """
    if len(devices) == 1 or (needed := _devices_needed(pair, dtype, devices)) == 1:
        return None
    return Places(devices[0], tuple(devices[place] for place in PairBytes.of(pair, dtype).places(needed)))


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
