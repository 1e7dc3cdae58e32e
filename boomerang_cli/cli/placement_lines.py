"""How a sweep would be placed and shared out, as text."""

from __future__ import annotations

from collections.abc import Iterator

from boomerang_cli.engine.evaluation.placement_plan import MOST_GPUS, PlacementPlan
from boomerang_cli.engine.sizes import show_bytes, show_gpus

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
    if plan.way is None and plan.device == "cpu":
        return "does not fit on the CPU"
    if plan.way is None:
        return f"does not fit on {show_gpus(plan.gpus)}; {_first_fit(plan)}"
    who = "one process" if plan.processes == 1 else f"{plan.processes} processes, each"
    left = plan.gpus - plan.processes * plan.gpus_a_process
    return f"{plan.way}: {who} with both models{_place(plan)}" + (f"; {show_gpus(left)} left over" if left > 0 else "")


def _place(plan: PlacementPlan) -> str:
    if plan.gpus_a_process > 1:
        fullest = show_bytes(plan.fullest_bytes)
        return f", their layers over {show_gpus(plan.gpus_a_process)} ({fullest} on the fullest), which work in turn"
    if plan.device == "cpu":
        return " on the CPU"
    return " on a GPU" + (" of its own" if plan.processes > 1 else "")


def _first_fit(plan: PlacementPlan) -> str:
    fullest = f"{show_bytes(plan.fullest_bytes)} on the fullest"
    if plan.first_fitting_gpus is None:
        return f"fits on no number of such GPUs: of {MOST_GPUS} there would be {fullest}"
    return f"first fits on {show_gpus(plan.first_fitting_gpus)} ({fullest})"


def _shared(plan: PlacementPlan) -> Iterator[str]:
    for what, means in _SHARED.items():
        if works := [work for work, shared in plan.shared.items() if shared == what]:
            yield f"{', '.join(works)}: {means}"
