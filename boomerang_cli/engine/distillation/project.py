"""A distillation as it is decided before anything is trained: from headers, names and numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from boomerang_cli.engine.checkpoint.files import check_utf8
from boomerang_cli.engine.distillation.data import TextSources, find_sources
from boomerang_cli.engine.distillation.levers import Levers
from boomerang_cli.engine.distillation.patched_steps import PatchedSteps
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.student import default_output, plan_student
from boomerang_cli.engine.distillation.text import check_sequence_lengths, fit_lengths
from boomerang_cli.engine.distillation.training_folder import TrainingFolder
from boomerang_cli.engine.errors import ModelNotFoundError
from boomerang_cli.engine.models.model_class import check_pair
from boomerang_cli.engine.models.same_layers import check_plans
from boomerang_cli.engine.output.output_folder import check_spares
from boomerang_cli.engine.output.plan import Plan
from boomerang_cli.engine.pair.pair import Pair, open_pair


@dataclass(frozen=True)
class Project:
    """A distillation.

    Attributes:
        recipe: with lengths that the teacher has positions for.
        sources: its texts, found and not read.
        plan: of the student that is to be written.
        patched_steps: those that train the student as a part of a model in between.
    """

    pair: Pair
    recipe: Recipe
    levers: Levers
    sources: TextSources
    plan: Plan
    patched_steps: PatchedSteps
    target: Path

    @property
    def folder(self) -> TrainingFolder:
        """Where its checkpoints stand."""
        return TrainingFolder.of(self.target)


def open_project(
    student_init: str | Path,
    *,
    teacher: str | Path | None,
    keep: Sequence[int] | None,
    recipe: Recipe,
    fixed: Collection[str],
    levers: Levers,
    target: Path | None,
    dtype: str,
    download: bool,
    on_note: Callable[[str], None],
) -> Project:
    """Find the texts, open the models, and decide what is written.

    Args:
        fixed: the lengths of the recipe that are not shortened: a user's own.
        target: where the student is written; None follows from what is trained.
        dtype: of the written student, as for ``distill``.
        download: bring models of the Hub whole into the cache.
        on_note: told of what is left out of a folder of texts, and of lengths that were shortened.

    Raises:
        ModelNotFoundError, CheckpointError, UnsupportedModelError, PairError, HubError: models that cannot be used.
        DataError: a text that is not there.
        TrainingError: lengths that the teacher has no positions for, or nothing in between to patch.
        SelectionError: an unknown dtype.
        OutputError: a path that is no UTF-8, or an output that would take the place of its models.
    """
    sources = find_sources(recipe.data, recipe.eval_data, recipe.sft_data, column=recipe.text_column)
    for note in sources.notes:
        on_note(note)
    pair = _open_student_init(student_init, teacher, keep, download=download)
    target = target or Path(default_output(pair))
    check_utf8(target, pair.student.folder, pair.teacher.folder)
    check_spares(target, pair.student.folder, pair.teacher.folder)
    recipe, shortened = fit_lengths(recipe, pair.teacher, fixed)
    if shortened:
        on_note(shortened)
    check_sequence_lengths(pair.teacher, recipe)
    patched_steps = PatchedSteps.of(recipe, pair)
    plan = plan_student(pair, dtype)
    check_plans([plan], pair.teacher, pair.family)
    check_pair(pair)
    return Project(pair, recipe, levers, sources, plan, patched_steps, target)


def _open_student_init(
    student_init: str | Path, teacher: str | Path | None, keep: Sequence[int] | None, *, download: bool
) -> Pair:
    """Open the student that is to be distilled, and its teacher (errors as in ``pair.open_pair``)."""
    if str(student_init) == "student-init" and not Path(student_init).exists():
        raise ModelNotFoundError(
            "no student to distil in ./student-init: make one with `boomerang init-student TEACHER`, or name its folder"
        )
    return open_pair(student_init, teacher, keep=keep, download=download)
