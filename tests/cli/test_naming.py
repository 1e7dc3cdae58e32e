"""What a name on the command line means, who named what nobody typed, and what is recommended next."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from distilling import RECIPE, make_project
from files import edit_json, names
from running import assert_refused, run

TRAINED = ("--data", "train.txt", *RECIPE, "--steps", "1")
SCORED = ("--sequence-length", "16", "--sequences", "2", "--layers", "1", "--quiet")

pytestmark = pytest.mark.usefixtures("plain_pictures")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("made"))


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh project, which is the current folder; home is the folder beside it."""
    shutil.copytree(made, tmp_path / "project")
    (tmp_path / "home").mkdir()
    edit_json(tmp_path / "project" / "student-init" / "student_config.json", teacher=str(tmp_path / "project/teacher"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


# Homes


def test_every_output_is_written_to_the_home_that_it_names(project: Path, tmp_path: Path) -> None:
    before = names(project)
    run("init-student", "~/../project/teacher", "--output=~/init", "--quiet")
    run("distill", "~/init", "--output=~/student", *TRAINED, "--quiet")
    run("patch", "--student=~/student", "--teacher=~/../project/teacher", "--layers", "1", "--output=~/patched", "-q")
    run("sweep", "--student=~/student", "--data", "train.txt", "--output=~/sweep", *SCORED)
    written = [name for name in names(tmp_path / "home") if not name.startswith(".")]  # libraries have their own there
    assert written == ["init", "patched", "student", "sweep"]
    assert names(project) == before


def test_every_text_and_order_is_read_from_the_home_that_it_names(project: Path, tmp_path: Path) -> None:
    for name in ("train.txt", "held-out.txt"):
        shutil.copy(name, tmp_path / "home")
    (tmp_path / "home" / "order.json").write_text("[3, 0, 1]")
    texts = ("--data=~/train.txt", "--eval-data=~/held-out.txt")
    run("distill", *texts, *RECIPE, "--dry-run")
    student = ("--student", "student-init", "--order=first,~/order.json")
    run("sweep", *student, texts[0], "--calibration=~/held-out.txt", *SCORED)
    blocks = run("patch", *student[:2], "--order=~/order.json", "--layers", "1", "--dry-run", "--json").stdout
    assert json.loads(blocks)["patched_blocks"] == [3]


def test_a_home_of_nobody_is_wrong_usage(project: Path) -> None:
    assert "no such home" in run("init-student", "teacher", "-o", "~nobody-of-that-name/x", code=2).stderr


@pytest.mark.parametrize("option", ["--student", "--teacher", "--output"])
def test_an_empty_name_is_no_default(project: Path, option: str) -> None:
    assert "it is empty" in run("patch", "--layers", "1", option, "", code=2).stderr


# Ranges


@pytest.mark.parametrize("blocks", ["3-1", "0,3-1", "", ",", "1-", "-1"])
def test_a_range_that_is_reversed_or_empty_is_wrong_usage(project: Path, blocks: str) -> None:
    run("patch", "--student", "student-init", f"--blocks={blocks}", code=2)
    assert not list(project.glob("patched-*"))


# Who said it


def test_a_recorded_teacher_that_is_gone_comes_with_the_file_that_records_it(project: Path) -> None:
    shutil.rmtree("teacher")
    record = rf"student_config\.json of {project}/student-init"
    said = rf"no model at {project}/teacher.*\({record} records the teacher, --teacher names another\)"
    assert_refused("patch", "--student", "student-init", "--layers", "1", message=said)
    assert_refused("distill", "--quiet", *TRAINED, message=said)


@pytest.mark.parametrize(("role", "flag"), [("STUDENT", "--teacher"), ("TEACHER", "--student")])
def test_a_model_that_a_variable_names_comes_with_the_variable(
    project: Path, monkeypatch: pytest.MonkeyPatch, role: str, flag: str
) -> None:
    monkeypatch.setenv(f"BOOMERANG_{role}", "nowhere")
    said = rf"no model at nowhere.*\(BOOMERANG_{role} names the {role.lower()}, --{role.lower()} another\)"
    assert_refused("patch", flag, "student-init" if flag == "--student" else "teacher", "--layers", "1", message=said)


def test_a_teacher_of_a_variable_that_does_not_fit_comes_with_the_variable(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOMERANG_TEACHER", "student-init")
    said = r"do not belong together: .*\(BOOMERANG_TEACHER names the teacher, --teacher another\)"
    assert_refused("patch", "--student", "student-init", "--layers", "1", message=said)


def test_a_model_that_was_typed_needs_no_word(project: Path) -> None:
    shown = run("patch", "--student", "nowhere", "--layers", "1", code=1).stderr
    assert "names" not in shown


def test_what_an_order_file_holds_comes_with_its_name(project: Path) -> None:
    Path("order.json").write_text("[2]")
    said = r"--order order\.json: order \[2\] must hold each patchable block once"
    assert_refused("patch", "--student", "student-init", "--order", "order.json", "--layers", "1", message=said)


def test_a_text_that_a_student_records_and_that_is_gone_is_named(project: Path) -> None:
    recipe = {"data": ["train.txt"], "eval_data": ["gone.txt"]}
    edit_json(project / "student-init" / "student_config.json", distillation={"recipe": recipe})
    said = r"the text that the student was evaluated on, gone\.txt, is not here: give --data"
    assert_refused("sweep", "--student", "student-init", *SCORED, message=said)


def test_a_text_that_a_student_records_and_that_is_too_short_comes_with_its_record(project: Path) -> None:
    Path("short.txt").write_text("w3")
    recipe = {"data": ["train.txt"], "eval_data": ["short.txt"]}
    edit_json(project / "student-init" / "student_config.json", distillation={"recipe": recipe})
    said = r"short\.txt.*\(the student's student_config\.json names the text, --data another\)"
    assert_refused("sweep", "--student", "student-init", *SCORED, message=said)


def test_results_without_rows_are_named_as_such(project: Path) -> None:
    Path("sweep/5L").mkdir(parents=True)
    shutil.copy("teacher/config.json", "sweep/5L")
    Path("sweep/results.json").write_text('{"rows": 5}')
    assert_refused("push", "sweep", "me/model", "--dry-run", message=r"sweep/results\.json holds no rows of a sweep")


# What is recommended next


def hinted(stderr: str) -> list[str]:
    """Return the recommended command's words, without the program's name."""
    found = re.findall(r"^hint: .*`boomerang (.*)`$", stderr, re.MULTILINE)
    return shlex.split(found[0]) if found else []


@pytest.mark.parametrize(("keep", "layers"), [("0,1,2,3,4,5,6", None), ("0,1,2,3,4,6", "1"), ("0,2,4,5,7", "2")])
def test_distill_recommends_only_what_its_pair_has(project: Path, keep: str, layers: str | None) -> None:
    run("init-student", "teacher", "-o", "init", "--keep", keep, "--quiet")
    command = hinted(run("distill", "init", *TRAINED).stderr)
    assert command == ([] if layers is None else ["patch", "--layers", layers])
    if command:
        run(*command, "--dry-run")


def test_a_recommendation_means_this_student_and_teacher_whatever_the_variables_name(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOMERANG_STUDENT", "student-init")
    monkeypatch.setenv("BOOMERANG_TEACHER", "student-init")
    command = hinted(run("distill", "--teacher", "teacher", *TRAINED).stderr)
    assert command == ["patch", "--layers", "2", "--student", "student", "--teacher", "teacher"]
    run(*command, "--dry-run")


def test_a_sweep_recommends_what_can_be_typed_with_the_flags_that_it_was_given(project: Path) -> None:
    Path("student-init/student_config.json").unlink()
    named = ("--student", "student-init", "--teacher", "teacher", "--keep", "0,2,4,5,7")
    command = hinted(run("sweep", *named, "--data", "train.txt", *SCORED[:-1]).stderr)
    assert json.loads(run(*command, "--dry-run", "--json").stdout)["layers"] == 1


def test_an_example_of_kept_layers_has_as_many_as_the_student(project: Path) -> None:
    Path("student-init/student_config.json").unlink()
    said = r"which teacher layers its 5 layers copied, such as --keep 0,2,4,6,8\n"
    assert_refused("patch", "--student", "student-init", "--teacher", "teacher", "--layers", "1", message=said)


# Quiet


def test_random_weights_are_drawn_without_a_bar(project: Path) -> None:
    assert run("init-student", "teacher", "-o", "drawn", "--random-init", "--quiet").stderr == ""
