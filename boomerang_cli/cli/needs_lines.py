"""What a training needs, as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from boomerang_cli.cli.table import table
from boomerang_cli.engine.distillation.needs import Needs, PhaseNeeds
from boomerang_cli.engine.sizes import show_bytes, show_count, show_duration, show_gpus


def needs_text(needs: Needs) -> str:
    """Return parameters, operations and hours line by line, and a table of memory with a column a phase."""
    return "\n".join([*_lines(needs), "", _memory(needs), ""])


def _lines(needs: Needs) -> Iterator[str]:
    yield f"trained: {show_count(needs.trained_parameters)} parameters; frozen: {show_count(needs.frozen_parameters)}"
    for phase in needs.phases:
        length = f"{phase.batch_size:,} x {phase.sequence_length:,}"
        yield f"{phase.name}: {phase.steps:,} steps of {length} tokens, {show_count(phase.tokens)} tokens in all"
    total = needs.flops["total"]
    shares = (f"{name} {value / total:.0%}" for name, value in needs.flops.items() if name != "total" and value)
    yield f"operations: {total:.2e} FLOPs ({', '.join(shares)})"
    if needs.hours is not None and needs.tokens_per_second is not None:
        rate = f"{needs.tokens_per_second:,.0f} tokens/s"
        each = f"{total / needs.hours / 3600 / 1e12 / needs.gpus:,.2f} TFLOP/s a {needs.device.upper()}"
        takes = f"{needs.hours:,.1f} hours" if needs.hours >= 2 else show_duration(3600 * needs.hours)
        together = f", {needs.gpu_hours:,.1f} GPU hours" if needs.device == "gpu" else ""
        yield f"time: {takes} at {rate} ({each}){together}"
    yield from _fit(needs)


def _fit(needs: Needs) -> Iterator[str]:
    each = f"{show_bytes(needs.gpu_memory_bytes)}{'' if needs.device == 'gpu' else ' of memory'}"
    place = f"{show_gpus(needs.gpus)} of {each}" if needs.device == "gpu" else f"the CPU, {each}"
    if needs.fits:
        sizes = ", ".join(str(phase.micro_batch_size) for phase in needs.phases)
        yield f"fits on {place}: micro-batch size {sizes}"
    else:
        most = max(phase.sequences for phase in needs.phases if not phase.micro_batch_size)
        takes = f"{most} sequences take" if most > 1 else "one sequence takes"
        yield f"does not fit on {place}: {takes} over nine tenths of it"
    if needs.device == "gpu":
        first = needs.first_fitting_gpus
        yield f"first fits on {show_gpus(first)}" if first else "fits on no number of such GPUs"
    if needs.host_bytes:
        yield f"host memory: {show_bytes(needs.host_bytes)} a GPU"


def _memory(needs: Needs) -> str:
    rows = [
        [part.name.replace("_", " "), *(show_bytes(getattr(phase.memory, part.name)) for phase in needs.phases)]
        for part in fields(needs.phases[0].memory)
    ]
    rows.append(["peak", *(show_bytes(phase.peak_bytes) for phase in needs.phases)])
    return table([f"memory a {needs.device.upper()}", *(_heading(phase) for phase in needs.phases)], rows)


def _heading(phase: PhaseNeeds) -> str:
    return f"{phase.name}, {phase.sequences} at once{', estimated' if phase.is_estimate else ''}"
