"""A teacher whose experts stand in one tensor a layer, as transformers 5 holds them: its students are spelled alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from distilling import distil, make_project
from files import tensor_bytes
from running import assert_refused
from tiny_models import load, save_pair

from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.patch import patch


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files of teacher and student, with the names that the modules have."""
    make_project(tmp_path, "mixtral")
    for name in ("teacher", "student-init"):
        load(tmp_path / name).save_pretrained(tmp_path / name, save_original_format=False)
    return tmp_path


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, (_, shape, _) in tensor_bytes(folder).items()}


def test_a_student_is_distilled_and_patched_in_its_teachers_spelling(project: Path) -> None:
    distil(project, steps=1)
    assert shapes(project / "student") == shapes(project / "student-init")
    assert "model.layers.0.mlp.experts.gate_up_proj" in shapes(project / "student")
    patch(layers=1, student=project / "student", teacher=project / "teacher", output=project / "patched")
    load(project / "patched")


def test_weights_are_drawn_at_random_in_the_teachers_spelling(project: Path) -> None:
    init_student(project / "teacher", output=project / "drawn", random_init=True)
    assert "model.layers.0.mlp.experts.down_proj" in shapes(project / "drawn")
    load(project / "drawn")


def test_two_spellings_of_experts_are_refused_with_the_way_out(tmp_path: Path) -> None:
    _, student = save_pair(tmp_path, "mixtral")
    load(student).save_pretrained(student, save_original_format=False)
    message = r"the experts of one stand one by one, the other's in one tensor: save both by transformers"
    assert_refused("patch", "--layers", "1", "--student", student, "-o", tmp_path / "out", message=message)
