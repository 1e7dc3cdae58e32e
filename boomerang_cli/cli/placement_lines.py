"""How a sweep would be placed and shared out, as text."""

from __future__ import annotations

from collections.abc import Iterator

from boomerang_cli.engine.evaluation.placement_plan import PlacementPlan
from boomerang_cli.engine.sizes import show_bytes

_SHARED = {
    "windows": "each process scores batches of windows of its own",
    "sets": "each process walks a part of its own of the tree of sets",
    "models": "each of a model runs whole in one process, models side by side",
    "process": "measured in one process",
}


def placement_text(plan: PlacementPlan) -> str:
    """Return what the pair needs beside what there is, the way that follows, and what is shared out."""
    return "\n".join([_needs(plan), _way(plan), *_shared(plan)])


def _needs(plan: PlacementPlan) -> str:
    memory = show_bytes(plan.gpu_memory_bytes)
    room = f"{show_bytes(plan.room_bytes)} for weights"
    place = f"a GPU of {memory} has {room}" if plan.device == "gpu" else f"the CPU has {memory} of memory, {room}"
    return f"both models take {show_bytes(plan.pair_bytes)} in {plan.dtype}; {place}"


def _way(plan: PlacementPlan) -> str:
    if not plan.fits:
        return f"does not fit on {_gpus(plan)}" + (f"; {_first_fit(plan)}" if plan.device == "gpu" else "")
    left = plan.gpus - plan.processes * plan.gpus_a_process
    idle = f"; {_count(left, 'GPU')} left over" if left > 0 else ""
    models = "both models" + (" whole" if plan.gpus_a_process == 1 else "")
    over = f"{plan.gpus_a_process} GPUs ({show_bytes(plan.fullest_bytes)} on the fullest), which work one after another"
    if plan.way == "data-parallel":
        own = f"their layers spread over {over}" if plan.gpus_a_process > 1 else f"on {_own(plan)}"
        return f"data-parallel: {plan.processes} processes, each with {models}, {own}{idle}"
    if plan.way == "spread":
        return f"spread: one process with {models}, their layers over {over}{idle}"
    return f"whole: one process with {models} on {'a GPU' if plan.device == 'gpu' else 'the CPU'}"


def _own(plan: PlacementPlan) -> str:
    return "a GPU of its own" if plan.device == "gpu" else "the CPU"


def _first_fit(plan: PlacementPlan) -> str:
    first = plan.first_fitting_gpus
    return f"first fits on {_count(first, 'GPU')}" if first else "fits on no number of such GPUs"


def _gpus(plan: PlacementPlan) -> str:
    return _count(plan.gpus, "GPU") if plan.device == "gpu" else "the CPU"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"


def _shared(plan: PlacementPlan) -> Iterator[str]:
    for what, means in _SHARED.items():
        if works := [work for work, shared in plan.shared.items() if shared == what]:
            yield f"{', '.join(works)}: {means}"
