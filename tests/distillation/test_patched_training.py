"""A training with steps of models in between: the same however a step is split, over processes and over a kill."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import training as small
from distilling import RECIPE, distil, make_project
from files import tensor_bytes
from processes import boomerang, in_two_processes, wait_for
from running import assert_refused, run
from tiny_models import save_pair

from boomerang_cli.engine.distillation.arguments import training_arguments
from boomerang_cli.engine.distillation.models import load_student, load_teacher
from boomerang_cli.engine.distillation.patched_steps import PatchedSteps
from boomerang_cli.engine.distillation.trainer import DistillationTrainer
from boomerang_cli.engine.models.compose import LoadedPair
from boomerang_cli.engine.models.patched_student import PatchedStudents
from boomerang_cli.engine.pair.pair import open_pair
from boomerang_cli.engine.pair.student_config import read_student_config
from boomerang_cli.engine.processes.group import is_distributed, rank

PATCHED = replace(small.RECIPE, steps=6, patched_share=1.0, alignment="relative", seed=2)
"""All steps but the first; at this seed with each pair of owners of embedding and head: both, one, the other, none."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside its teacher; tied, so that what is one parameter in one model is two in another."""
    return save_pair(tmp_path_factory.mktemp("pair"), "qwen3")[1]


def make_trainer(student: Path, folder: Path, micro_batch_size: int | str) -> DistillationTrainer:
    arguments = training_arguments(PATCHED, folder)  # connects the processes
    pair = open_pair(student)
    models = load_student(pair, arguments.device), load_teacher(pair, arguments.device)
    trainer = small.make_trainer(
        folder,
        PATCHED,
        models=models,
        micro_batch_size=micro_batch_size,
        layer_map=pair.layer_map,
        patched_steps=PatchedSteps.of(PATCHED, pair),
        between=PatchedStudents(LoadedPair(pair, {"student": models[0], "teacher": models[1]})),
    )
    if is_distributed():
        trainer.args.dataloader_num_workers = 0  # a third process would import all
    return trainer


def train(student: Path, folder: Path, micro_batch_size: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    trainer = make_trainer(student, folder, "auto")  # measuring must leave nothing behind
    trainer.set_micro_batch_size(micro_batch_size)
    trainer.train()
    weights = small.whole_state(trainer.student)
    log = [record for record in trainer.state.log_history if "loss" in record]
    return {key: [record[key] for record in log] for key in ("loss", "relative", "kl", "grad_norm")} | weights


def train_and_save(student: Path, folder: Path) -> None:
    seen = train(student, folder, 1)
    if rank() == 0:
        torch.save(seen, folder / "seen.pt")


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, list):
            assert found[name] == pytest.approx(value, rel=1e-5), name
        else:
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.fixture(scope="module")
def alone(student: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train(student, tmp_path_factory.mktemp("alone"), 4)


def test_a_step_is_the_same_in_any_micro_batches(student: Path, alone: dict[str, Any], tmp_path: Path) -> None:
    assert_same(train(student, tmp_path, 1), alone)


def test_two_processes_that_split_both_models_train_as_one(
    student: Path, alone: dict[str, Any], tmp_path: Path
) -> None:
    in_two_processes(train_and_save, student, tmp_path)
    assert_same(torch.load(tmp_path / "seen.pt", weights_only=True), alone)


def test_auto_measures_the_step_that_takes_most_memory(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(student, tmp_path, 1)
    differentiated: list[int] = []
    for index, layer in enumerate(trainer.teacher.base_model.layers):
        layer.register_full_backward_hook(lambda *_, index=index: differentiated.append(index))
    trainer.set_micro_batch_size("auto")
    assert differentiated == [7, 6, 5, 4, 3, 2]
    assert all(parameter.grad is None for parameter in trainer.student.parameters())


# As a shell sees it

COMMAND = ("distill", "--data", "train.txt", *RECIPE, "--steps", "24", "--repeat", "--quiet")
BETWEEN = ("--patched-share", "0.5", "--alignment", "relative")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("made"))


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_killed_and_resumed_run_ends_in_the_weights_of_an_unbroken_one(project: Path) -> None:
    killed = boomerang(*COMMAND, *BETWEEN, "-o", "broken", "--save-every", "1")
    wait_for(lambda: [path for path in project.glob("broken.training/checkpoint-*") if not path.suffix], killed)
    killed.kill()
    killed.communicate()
    assert not (project / "broken").exists()
    run(*COMMAND, *BETWEEN, "-o", "broken", "--resume")
    run(*COMMAND, *BETWEEN, "-o", "whole")
    assert tensor_bytes(project / "broken") == tensor_bytes(project / "whole")


def test_the_recipe_is_recorded_and_another_one_is_not_resumed(project: Path) -> None:
    def stop(progress: Any) -> None:
        if progress.step == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        distil(project, recipe="between", save_every=1, on_progress=stop)
    command = ("distill", "--data", "train.txt", *RECIPE, "--quiet", "--resume")
    assert_refused(*command, "--patched-share", "0.5", message=r"--alignment cosine \(was relative\), ")
    assert_refused(*command, "--alignment", "relative", message=r"--patched-share 0\.0 \(was 0\.5\)")
    result = json.loads(run(*command, "--recipe", "between", "--json").stdout)
    assert [*result["losses"]] == ["total", "cross_entropy", "kl", "relative"]
    recorded = read_student_config(project / "student").distillation["recipe"]
    assert (recorded["alignment"], recorded["patched_share"]) == ("relative", 0.5)


def test_without_patched_steps_nothing_of_them_is_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatchedStudents, "model", lambda *_: pytest.fail("a model in between was made"))
    assert distil(project, steps=2).recipe["patched_share"] == 0


@pytest.mark.parametrize(("options", "message"), [
    (("--patched-share", "1.5"), r"--patched-share 1\.5 must be a share of the steps, from 0 to 1"),
    (("--patched-share", "nan"), r"--patched-share nan must be a share"),
    (("--recipe", "better"), r"--recipe better is unknown: give one of paper, adapt, between"),
])  # fmt: skip
def test_bad_values_are_one_line(project: Path, options: tuple[str, ...], message: str) -> None:
    assert_refused("distill", "--data", "train.txt", *RECIPE, *options, "--quiet", message=message)
