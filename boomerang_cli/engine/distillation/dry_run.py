"""What a distillation would take: its texts looked at, its memory, operations and hours counted; nothing is trained."""

from __future__ import annotations

from dataclasses import replace

from boomerang_cli.engine.distillation.measured_rate import measure_rate
from boomerang_cli.engine.distillation.needs import needs_of
from boomerang_cli.engine.distillation.project import Project
from boomerang_cli.engine.distillation.result import DistillPlan
from boomerang_cli.engine.distillation.text import look_at_text
from boomerang_cli.engine.processes.machine import Machine
from boomerang_cli.engine.quiet import keep_libraries_quiet
from boomerang_cli.engine.waiting import waiting


def plan_training(
    project: Project,
    *,
    with_conversations: bool,
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
        TrainingError: no GPU, a lever that the models or the machine do not have, or not even one sequence fits.
        SelectionError: a size of memory that is none.
    """
    pair, recipe, levers, sources = project.pair, project.recipe, project.levers, project.sources
    with waiting("looking at the text"):
        look_at_text(sources if with_conversations else replace(sources, chat=()), recipe, pair)
    machine = Machine.of(gpus, gpu_memory)
    if measure:
        keep_libraries_quiet()
        tokens_per_second = machine.gpus * measure_rate(pair, recipe, levers)
    needs = needs_of(pair, recipe, levers, machine, tokens_per_second)
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
