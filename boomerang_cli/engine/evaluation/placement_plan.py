"""How a sweep would be put on a machine and shared out, told before it: from headers, without torch."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from boomerang_cli.engine.brief import Brief
from boomerang_cli.engine.evaluation.pair_bytes import ROOM, PairBytes, computed_dtype
from boomerang_cli.engine.evaluation.rows import SweepResult
from boomerang_cli.engine.pair.order import SEARCHED
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.processes.launch import is_launched
from boomerang_cli.engine.processes.machine import Machine

MOST_GPUS = 256
"""More are not looked at: a process spreads layers over GPUs of its own machine."""


@dataclass(frozen=True, repr=False)
class PlacementPlan(Brief):
    """Where the models of a sweep would stand, and how its work would be shared out.

    Attributes:
        way: ``data-parallel``: several processes, each with the pair; ``spread``: one, with the pair's layers over
            several GPUs; ``whole``: one, with the pair on one device; None if the pair does not fit.
        gpus, device, gpu_memory_bytes: as in ``needs.Needs``; of a CPU 1, ``cpu``, and what is available.
        dtype: of the computation.
        pair_bytes: what both models take.
        room_bytes: what of each GPU's memory is for weights.
        first_fitting_gpus: the smallest number of such GPUs that hold the pair; None if there is none, or for a CPU.
        processes, gpus_a_process: 0 if the pair does not fit.
        fullest_bytes: of weights, on the fullest of ``gpus_a_process``; of ``first_fitting_gpus`` if the pair does not
            fit, or of ``MOST_GPUS``.
        layers: on which of a process's GPUs each layer of the teacher, and the student's that stands for it, would be.
        shared: what several processes share out of each kind of work: ``windows``; ``sets``, parts of their tree;
            ``models``, each whole in one process; or nothing, where one ``process`` does all.
    """

    brief = ("way", "gpus", "device", "gpu_memory_bytes", "pair_bytes", "processes", "gpus_a_process", "shared")

    way: Literal["data-parallel", "spread", "whole"] | None
    gpus: int
    device: str
    gpu_memory_bytes: int
    dtype: str
    pair_bytes: int
    room_bytes: int
    fits: bool
    first_fitting_gpus: int | None
    processes: int
    gpus_a_process: int
    fullest_bytes: int
    layers: tuple[int, ...]
    shared: Mapping[str, str]


@dataclass(frozen=True, repr=False, kw_only=True)
class SweepPlan(SweepResult):
    """The sizes to choose from, without scores, and how their models would be placed."""

    brief: ClassVar[tuple[str, ...]] = ("path", "teacher", "student", "rows", "placement")

    placement: PlacementPlan


def plan_placement(
    pair: Pair, machine: Machine, *, dtype: str, orders: Collection[str], asks: Collection[str]
) -> PlacementPlan:
    """Return how a sweep would be put on a machine, by the rule that it goes by (``PairBytes.devices_needed``).

    Args:
        dtype: of the computation, or ``auto``.
        orders: their names, of which some are searched.
        asks: what is done beside scoring text: ``prompts``, ``tasks``, ``speed``.
    """
    number = computed_dtype(dtype, "cuda" if machine.is_gpu else "cpu")
    size = PairBytes.of(pair, number)
    first = size.devices_needed(machine.memory_bytes, MOST_GPUS) if machine.is_gpu else None
    processes, each = _processes(machine, size, first)
    return PlacementPlan(
        way=_way(processes, each),
        gpus=machine.gpus,
        device="gpu" if machine.is_gpu else "cpu",
        gpu_memory_bytes=machine.memory_bytes,
        dtype=number,
        pair_bytes=size.total,
        room_bytes=int(ROOM * machine.memory_bytes),
        fits=processes > 0,
        first_fitting_gpus=first,
        processes=processes,
        gpus_a_process=each,
        fullest_bytes=size.largest(each or first or MOST_GPUS),
        layers=size.places(each) if each else (),
        shared=_shared(orders, asks) if processes > 1 else {},
    )


def _processes(machine: Machine, size: PairBytes, first: int | None) -> tuple[int, int]:
    """Return how many processes there would be, and how many devices each would use; twice 0 if the pair does not fit.

    Under torchrun there are as many as it started, and those of one machine share its GPUs, or its memory.
    """
    launched, here = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if not machine.is_gpu:
        return (launched, 1) if size.total * here <= ROOM * machine.memory_bytes else (0, 0)
    if first is None or first > max(1, machine.gpus // here):
        return 0, 0
    return (launched, first) if is_launched() else (machine.gpus // first, first)


def _way(processes: int, each: int) -> Literal["data-parallel", "spread", "whole"] | None:
    if processes > 1:
        return "data-parallel"
    if processes:
        return "spread" if each > 1 else "whole"
    return None


def _shared(orders: Collection[str], asks: Collection[str]) -> dict[str, str]:
    """Return what is shared out of each kind of work; see ``shared_scorer`` and ``Evaluation``."""
    searched = {name: "windows" if name == "greedy" else "sets" for name in SEARCHED if name in orders}
    beside = {name: "process" if name == "speed" else "models" for name in asks}
    return {"text": "windows", **searched, **beside}
