"""Sizes that other programs read as transformers does, and the warning where they do not, on tiny real models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import assert_refused, run
from spellings import read_tensors
from test_hybrid_students import save_teacher
from tiny_models import load, make_config, make_model, make_tokenizer, save_pair

from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.patch import patch

WARNING = "warning: llama.cpp supposes that every 6th layer is full_attention and no other"


@pytest.mark.parametrize("family", ["gemma3_text", "smollm3", "gpt_oss"])
def test_every_size_of_a_student_that_keeps_the_period_is_portable(family: str, tmp_path: Path) -> None:
    made = init_student(
        save_teacher(tmp_path / "teacher", family), output=tmp_path / "student", keep_period=True, keep_last=1
    )
    assert made.portable
    assert made.misread_sizes == {}
    for k in range(made.patchable_blocks + 1):
        assert patch(layers=k, student=made.path, output=tmp_path / str(k), dry_run=True).portable


def test_sizes_that_are_not_portable_are_told_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_teacher(Path("teacher"), "gemma3_text")
    assert "; --keep-period drops whole periods" in run("init-student", "teacher").stderr
    told = run("patch", "--student", "student-init", "--layers", "1", "--json")
    assert told.stderr.count(WARNING) == 1
    made = json.loads(told.stdout)
    assert made["portable"] is False
    assert made["misreaders"]["the head is the embedding matrix"] == ["SGLang"]
    assert "Not portable. llama.cpp supposes" in (Path(made["path"]) / "README.md").read_text()
    pushed = run("push", made["path"], "me/it", "--dry-run", "--json")
    assert WARNING in pushed.stderr
    assert json.loads(pushed.stdout)["portable"] is False
    swept = run("sweep", "--student", "student-init", "--dry-run", "--json")
    rows = json.loads(swept.stdout)["rows"]
    assert "warning: llama.cpp and MLX LM suppose" in swept.stderr
    assert [rows[0]["portable"], rows[-1]["portable"]] == [False, True]


def test_families_that_nothing_is_supposed_of_are_not_warned_about(tmp_path: Path) -> None:
    _, student = save_pair(tmp_path, "llama")
    told = run("patch", "--student", str(student), "--layers", "1", "--output", str(tmp_path / "out"))
    assert "suppose" not in told.stderr
    assert "ortable" not in (tmp_path / "out" / "README.md").read_text()


def test_a_teacher_without_a_period_is_refused(tmp_path: Path) -> None:
    teacher, _ = save_pair(tmp_path, "llama")
    command = ("init-student", teacher, "--keep-period", "--output", tmp_path / "out")
    assert_refused(*command, message="are all of one kind, leave it out")
    assert_refused(*command, "--keep", "0,2", message="--keep-period and --keep exclude one another")
    assert not (tmp_path / "out").exists()


def test_gpt2_without_the_prefix_keeps_its_names_while_it_is_tied(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    make_model(make_config("gpt2"), 1).base_model.save_pretrained(teacher)
    make_tokenizer().save_pretrained(teacher)
    student = init_student(teacher, output=tmp_path / "student", verify=True).path
    dropped = ("h.5.", "h.6.", "h.7.")
    assert set(read_tensors(student)) == {name for name in read_tensors(teacher) if not name.startswith(dropped)}
    untied = patch(layers=1, student=student, output=tmp_path / "untied", verify=True).path
    assert untied is not None
    assert {name.split(".")[0] for name in read_tensors(untied)} == {"transformer", "lm_head"}
    assert load(student).config.n_layer == 5
