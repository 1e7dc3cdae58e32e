"""What a student with a weight delta, and what is made of it, tells others: its sources, and no path of this disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from delta_models import save_trio
from files import edit_json

from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.pair.student_config import read_student_config
from boomerang_cli.engine.patch import patch
from boomerang_cli.engine.publishing.publication import prepare


@pytest.fixture
def student(tmp_path: Path) -> Path:
    save_trio(tmp_path)
    (tmp_path / "student" / "README.md").write_text("---\nlicense: mit\n---\n")
    return init_student(tmp_path / "chat", delta=tmp_path / "student", output=tmp_path / "made").path


def test_what_is_sent_names_the_sources_and_no_path(student: Path) -> None:
    texts = prepare(student, "me/chat-student").texts
    assert set(texts) >= {"README.md", "boomerang.json", "student_config.json"}
    assert not [name for name, text in texts.items() if str(student.parent) in text]
    assert json.loads(texts["student_config.json"])["weight_delta"] == {
        "student": "student",
        "base": "base",
        "scale": 1.0,
    }
    assert "made without training by a [weight delta](https://arxiv.org/abs/2608.22854)" in texts["README.md"]
    assert "license: mit" in texts["README.md"]
    assert "the delta student's is `mit`" in texts["README.md"]


def test_a_student_without_its_boomerang_json_is_still_told_as_untrained(student: Path) -> None:
    (student / "boomerang.json").unlink()
    assert "made without training by a [weight delta]" in prepare(student, "me/chat-student").texts["README.md"]


def test_a_student_that_was_distilled_from_it_is_told_as_distilled(student: Path) -> None:
    (student / "boomerang.json").unlink()
    edit_json(student / "student_config.json", distillation={"tokens": 5})
    assert "parameters, distilled, from which" in prepare(student, "me/chat-student").texts["README.md"]
    assert read_student_config(student).as_json()["weight_delta"]["scale"] == 1.0


def test_a_patched_model_tells_what_its_student_was_made_of(student: Path) -> None:
    made = patch(layers=1, student=student, output=student.parent / "patched").path
    assert made is not None
    told = json.loads((made / "boomerang.json").read_text())
    assert told["weight_delta"] == read_student_config(student).weight_delta
