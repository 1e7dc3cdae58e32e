"""What a training needs, told before it: operations, memory of each GPU, how many of them, and hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from boomerang_cli.engine.brief import Brief
from boomerang_cli.engine.distillation.cost import Flops, ModelSize, flops_of
from boomerang_cli.engine.distillation.levers import Levers
from boomerang_cli.engine.distillation.memory_plan import Memory, MemoryPlan, StepMemory
from boomerang_cli.engine.distillation.micro_batch import CPU_TOKENS
from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.step_memory import StepOnNoMemory
from boomerang_cli.engine.pair.layers import Owner
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.processes.machine import Machine
from boomerang_cli.engine.waiting import waiting


@dataclass(frozen=True)
class PhaseNeeds:
    """A phase of a training.

    Attributes:
        micro_batch_size: the one that was asked for, else the largest that fits; 0 if that does not, or not even one
            sequence.
        sequences: that run at once where ``memory`` is counted: as many as fit, else those that do not.
        memory: of each GPU at its peak, by part, in bytes.
        first_fitting_gpus: the smallest number of GPUs on which it fits, or one sequence; None if there is none.
        is_estimate: whether activations are a rule of thumb's.
    """

    name: str
    steps: int
    batch_size: int
    sequence_length: int
    tokens: int
    flops: Mapping[str, int]
    micro_batch_size: int
    sequences: int
    memory: Memory
    peak_bytes: int
    first_fitting_gpus: int | None
    is_estimate: bool


@dataclass(frozen=True, repr=False)
class Needs(Brief):
    """What a training needs on a machine.

    Attributes:
        trained_parameters, frozen_parameters: the student's, the teacher's.
        host_bytes: of host memory, a process, that ``--offload`` takes.
        tokens_per_second: of the whole machine, given or measured; None if neither.
    """

    brief = ("gpus", "device", "gpu_memory_bytes", "fits", "first_fitting_gpus", "tokens_per_second", "hours")

    gpus: int
    gpu_memory_bytes: int
    device: str
    trained_parameters: int
    frozen_parameters: int
    tokens: int
    flops: Mapping[str, int]
    phases: Sequence[PhaseNeeds]
    fits: bool
    first_fitting_gpus: int | None
    host_bytes: int
    tokens_per_second: float | None = None
    hours: float | None = None
    gpu_hours: float | None = None


def needs_of(
    pair: Pair,
    recipe: Recipe,
    levers: Levers,
    machine: Machine,
    tokens_per_second: float | None,
    micro_batch_size: int | Literal["auto"] = "auto",
) -> Needs:
    """Return what a training needs; models are read from headers alone.

    Args:
        micro_batch_size: sequences that are to run at once, a divisor of each GPU's share of the batch; ``auto`` is as
            many as fit.
    """
    student, teacher = _sizes(pair)
    plan = MemoryPlan(
        student,
        teacher,
        2 if machine.is_gpu else 4,
        levers.optimizer_bytes,
        levers.offload,
        at_most=1 if levers.is_for_one_process else None,
    )
    step = StepOnNoMemory(pair, recipe, levers, machine.is_gpu)
    flops = flops_of_recipe(pair, recipe, levers)
    with waiting("counting the memory of a step", further_seconds=2.0):
        asked = None if micro_batch_size == "auto" else micro_batch_size
        phases = [
            _phase_needs(phase, plan, step.memory(phase), machine, each, asked)
            for phase, each in zip(recipe.phases, flops, strict=True)
        ]
    first = [phase.first_fitting_gpus for phase in phases]
    tokens = recipe.positions(recipe.total_steps)
    hours = tokens / tokens_per_second / 3600 if tokens_per_second else None
    return Needs(
        gpus=machine.gpus,
        gpu_memory_bytes=machine.memory_bytes,
        device="gpu" if machine.is_gpu else "cpu",
        trained_parameters=student.parameters,
        frozen_parameters=teacher.parameters,
        tokens=tokens,
        flops=sum(flops, Flops()).as_json(),
        phases=phases,
        fits=all(phase.micro_batch_size for phase in phases),
        first_fitting_gpus=None if None in first else max(each for each in first if each),
        host_bytes=plan.host_bytes(machine.gpus),
        tokens_per_second=tokens_per_second,
        hours=hours,
        gpu_hours=hours * machine.gpus if hours else None,
    )


def flops_of_recipe(pair: Pair, recipe: Recipe, levers: Levers) -> list[Flops]:
    """Return the operations of each phase."""
    student, teacher = _sizes(pair)
    return [
        flops_of(
            phase,
            student,
            teacher,
            pair.layer_map,
            patched_share=_mean_share(recipe),
            checkpointing=levers.gradient_checkpointing,
        )
        for phase in recipe.phases
    ]


def _sizes(pair: Pair) -> tuple[ModelSize, ModelSize]:
    """Return the student's and the teacher's."""
    owners: tuple[Owner, Owner] = ("student", "teacher")
    student, teacher = (ModelSize.of(pair.parts[owner], pair.config(owner), pair.family) for owner in owners)
    return student, teacher


def _mean_share(recipe: Recipe) -> float:
    """Return the share of patched steps over all of them: one that rises or falls is half of it on average."""
    return recipe.patched_share / (1 if recipe.patched_schedule == "constant" else 2)


def _phase_needs(
    phase: Phase, plan: MemoryPlan, held: StepMemory, machine: Machine, flops: Flops, asked: int | None
) -> PhaseNeeds:
    least, most = asked or 1, asked or (None if machine.is_gpu else max(1, CPU_TOKENS // phase.sequence_length))
    size = plan.micro_batch_size(phase, held, machine.gpus, machine.memory_bytes, most, least)
    memory = plan.memory(held, machine.gpus, size or least)
    return PhaseNeeds(
        name=phase.name,
        steps=phase.steps,
        batch_size=phase.batch_size,
        sequence_length=phase.sequence_length,
        tokens=phase.steps * phase.tokens_per_step,
        flops=flops.as_json(),
        micro_batch_size=size,
        sequences=size or least,
        memory=memory,
        peak_bytes=memory.total,
        first_fitting_gpus=plan.first_fit(phase, held, machine.memory_bytes, least),
        is_estimate=held.is_estimate,
    )
