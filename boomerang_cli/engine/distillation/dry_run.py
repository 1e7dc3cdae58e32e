"""What a distillation would take: its texts looked at, its memory, operations and hours counted; nothing is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from boomerang_cli.engine.distillation.measured_rate import measure_rate
from boomerang_cli.engine.distillation.needs import needs_of
from boomerang_cli.engine.distillation.project import Project
from boomerang_cli.engine.distillation.result import DistillPlan
from boomerang_cli.engine.distillation.text import look_at_text
from boomerang_cli.engine.errors import ProcessError
from boomerang_cli.engine.processes.machine import Machine
from boomerang_cli.engine.quiet import keep_libraries_quiet
from boomerang_cli.engine.waiting import waiting


def plan_training(
    project: Project,
    *,
    with_conversations: bool,
    micro_batch_size: int | Literal["auto"],
    gpus: int | None,
    gpu_memory: str | None,
    tokens_per_second: float | None,
    measure: bool,
) -> DistillPlan:
    """Return what training would take; all but ``with_conversations`` as for ``distill``.

    Args:
        with_conversations: look at them, too; a recipe's own are on the Hub.

    Raises:
        DataError: text of this disk that is too little, or conversations that cannot be read.
        ProcessError: no GPU, or GPUs of an unknown size; to measure for GPUs where there is none.
        TrainingError: a lever that the models or the machine do not have, a batch that cannot be split, or, measured,
            not even one sequence that fits.
        SelectionError: a size of memory that is none.
    """
    pair, recipe, levers, sources = project.pair, project.recipe, project.levers, project.sources
    machine = Machine.of(gpus, gpu_memory)
    if measure and machine.is_gpu and not torch.cuda.is_available():
        raise ProcessError(
            "--measure measures this machine, which has no GPU to plan for: give --tokens-per-second, or plan for its "
            "CPU without --gpu-memory"
        )
    levers.check_device(torch.device("cuda" if machine.is_gpu else "cpu"), machine.gpus)
    for phase in recipe.phases:
        phase.accumulation_steps(1 if micro_batch_size == "auto" else micro_batch_size, machine.gpus)
    with waiting("looking at the text"):
        look_at_text(sources if with_conversations else replace(sources, chat=()), recipe, pair)
    if measure:
        keep_libraries_quiet()
        tokens_per_second = machine.gpus * measure_rate(pair, recipe, levers, micro_batch_size)
    needs = needs_of(pair, recipe, levers, machine, tokens_per_second, micro_batch_size)
    return DistillPlan(
        path=project.target,
        steps=recipe.total_steps,
        tokens=needs.tokens,
        losses={},
        eval={},
        eval_before={},
        eval_teacher={},
        seconds=0.0,
        tokens_per_second=0.0,
        peak_memory_bytes=0,
        phases=[],
        recipe=recipe.as_json(),
        plan=project.plan,
        needs=needs,
    )
