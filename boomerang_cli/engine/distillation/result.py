"""What a distillation returns: what it reached, or would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from boomerang_cli.engine.brief import Brief
from boomerang_cli.engine.distillation.needs import Needs
from boomerang_cli.engine.output.plan import Plan


@dataclass(frozen=True, repr=False)
class DistillResult(Brief):
    """What training reached; of a dry run, what it would take.

    Attributes:
        path: the student folder.
        tokens: that the student was trained on, without padding; of a dry run, at most.
        losses: ``total cross_entropy kl``, and ``cosine`` or ``relative``, the recipe's alignment: means over the steps
            that were logged last, all of the last phase.
        eval: ``loss perplexity`` of the student on the evaluation text; empty without one.
        eval_before, eval_teacher: likewise, of the student before its first step, and of the teacher.
        seconds: of training, all parts of a resumed run together.
        peak_memory_bytes: of this process: the GPU's memory, or resident memory without a GPU.
        phases: of each ``name`` (``text``, ``sft``), ``steps tokens counted_tokens``, the last those that count in the
            losses, and of conversations ``rows_cut rows_left_out``; empty of a dry run.
        recipe: every value that decides the result.
    """

    brief: ClassVar[tuple[str, ...]] = ("path", "steps", "tokens", "losses", "eval", "seconds", "tokens_per_second")

    path: Path
    steps: int
    tokens: int
    losses: Mapping[str, float]
    eval: Mapping[str, float]
    eval_before: Mapping[str, float]
    eval_teacher: Mapping[str, float]
    seconds: float
    tokens_per_second: float
    peak_memory_bytes: int
    phases: Sequence[Mapping[str, Any]]
    recipe: Mapping[str, Any]
    plan: Plan


@dataclass(frozen=True, repr=False)
class DistillPlan(DistillResult):
    """What training would take, and ``needs`` of it; nothing is reached."""

    brief = ("path", "steps", "tokens", "needs")

    needs: Needs
