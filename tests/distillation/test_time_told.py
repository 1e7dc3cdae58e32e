"""What a training tells of its time: evaluations, hours, lengths, and losses that are those of the last step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from distilling import make_project
from training import RECIPE, VOCABULARY, make_trainer

from boomerang_cli.engine.distillation import cpu_hours
from boomerang_cli.engine.distillation.evaluation_steps import EvaluationSteps
from boomerang_cli.engine.distillation.levers import Levers
from boomerang_cli.engine.distillation.progress import Standing, TrainingProgress
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.text import fit_lengths
from boomerang_cli.engine.errors import TrainingError
from boomerang_cli.engine.pair.pair import open_pair

HELD_OUT = torch.randint(VOCABULARY, (6, 8), generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("made"))


def trained(folder: Path, **options: object) -> tuple[dict[str, object], list[TrainingProgress]]:
    shown: list[TrainingProgress] = []
    trainer = make_trainer(folder, evaluation=HELD_OUT, on_progress=shown.append, **options)  # type: ignore[arg-type]
    trainer.train()
    return {name: value.clone() for name, value in trainer.student.state_dict().items()}, shown


@pytest.mark.parametrize(
    ("total", "every", "due"), [(20, None, [*range(0, 21, 2)]), (7, 3, [0, 3, 6, 7]), (4, 9, [0, 4])]
)
def test_evaluations_that_are_still_to_come_are_those_that_are_due(
    total: int, every: int | None, due: list[int]
) -> None:
    steps = EvaluationSteps(total, every)
    assert [step for step in range(total + 1) if steps.are_due(step)] == [*due]
    assert all(steps.after(step) == sum(each > step for each in due) for step in range(total + 1))


def test_the_last_progress_has_the_losses_of_the_last_step(tmp_path: Path) -> None:
    _, shown = trained(tmp_path)
    last = [progress for progress in shown if progress.step == RECIPE.steps]
    before = next(progress for progress in reversed(shown) if progress.step == RECIPE.steps - 1)
    assert last[0].losses == last[-1].losses != before.losses


def test_the_teacher_is_scored_first_by_its_own_cross_entropy(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, evaluation=HELD_OUT)
    expected = trainer.teacher(HELD_OUT, labels=HELD_OUT).loss.item()
    trainer.train()
    assert trainer.standing.teacher_evaluation["loss"] == pytest.approx(expected, rel=1e-5)
    assert trainer.standing.evaluation_before["loss"] != trainer.standing.evaluation["loss"]


def test_what_is_scored_is_told_while_it_is(tmp_path: Path) -> None:
    _, shown = trained(tmp_path)
    assert [progress.evaluating for progress in shown[:4]] == [
        ("teacher", 0, 6), ("teacher", 2, 6), ("teacher", 4, 6), ("student", 0, 6),
    ]  # fmt: skip


def test_how_often_the_student_is_scored_does_not_change_it(tmp_path: Path) -> None:
    often, seldom = (trained(tmp_path / str(every), eval_every=every) for every in (1, 4))
    assert all(torch.equal(often[0][name], seldom[0][name]) for name in often[0])  # type: ignore[arg-type]
    assert len({progress.step for progress in often[1] if progress.evaluating}) == 5
    assert {progress.step for progress in seldom[1] if progress.evaluating} == {0, 4}


def test_time_left_counts_the_evaluations_to_come() -> None:
    standing = Standing(RECIPE, evaluation_seconds=10.0)
    standing.clock.stopped_seconds = 6.0
    settings = {"micro_batch_sizes": (2,), "learning_rate": 0.0, "stopping": False}
    assert standing.progress(3, **settings, evaluations=2).seconds_left == pytest.approx(2.0 + 20.0, abs=0.1)  # type: ignore[arg-type]
    standing.evaluating = ("student", 3, 6)
    assert standing.progress(3, **settings, evaluations=2).seconds_left == pytest.approx(2.0 + 25.0, abs=0.1)  # type: ignore[arg-type]


def test_hours_on_a_cpu_are_asked_about_and_told(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, notes = open_pair(made / "student-init"), []
    monkeypatch.setattr(cpu_hours, "measured_flops", lambda: 1e9)
    cpu = torch.device("cpu")
    with pytest.raises(TrainingError, match=r"2\.10B tokens take .* FLOPs, at least \d+ .* on this CPU: --yes starts"):
        cpu_hours.check_hours(pair, Recipe(), Levers(), cpu, yes=False, on_note=notes.append)
    cpu_hours.check_hours(pair, Recipe(), Levers(), cpu, yes=True, on_note=notes.append)
    cpu_hours.check_hours(pair, Recipe(), Levers(), torch.device("cuda"), yes=False, on_note=notes.append)
    cpu_hours.check_hours(pair, RECIPE, Levers(), cpu, yes=False, on_note=notes.append)
    assert len(notes) == 1


def test_a_default_length_is_cut_to_the_teachers_positions_and_a_given_one_is_left(made: Path) -> None:
    teacher = open_pair(made / "student-init").teacher
    longest = teacher.config["max_position_embeddings"]
    fitted, note = fit_lengths(Recipe(), teacher, ())
    assert (fitted.sequence_length, fitted.steps) == (longest, 500)
    assert note is not None
    assert note.startswith(f"--sequence-length {longest} instead of 2048: ")
    assert fit_lengths(Recipe(), teacher, ("sequence_length",)) == (Recipe(), None)
    short = replace(Recipe(), sequence_length=longest)
    assert fit_lengths(short, teacher, ()) == (short, None)
