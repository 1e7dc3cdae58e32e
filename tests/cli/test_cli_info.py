"""``boomerang info``: what a folder or a repository of the Hub is, told from headers alone."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from files import edit_json, processor_seconds_of_children
from hub_double import HubDouble
from running import assert_refused, run
from test_start_up import HEAVY, loaded
from tiny_models import KEPT, save_pair

from boomerang_cli import patch
from boomerang_cli.engine.info import info
from boomerang_cli.engine.output.planner import Planner
from boomerang_cli.engine.output.sizes import sizes_of
from boomerang_cli.engine.pair.pair import open_pair


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair with a licence and a training, and a model of two patched blocks."""
    folder = tmp_path_factory.mktemp("project")
    teacher, student = save_pair(folder, "qwen3")
    (teacher / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    training = {"recipe": {"steps": 7, "data": ["a/b"]}, "tokens": 70, "losses": {"total": 1.5}}
    edit_json(student / "student_config.json", distillation=training)
    patch(layers=2, student=student, output=folder / "patched")
    return folder


@pytest.fixture
def project(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def told(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("info", *arguments, "--json").stdout)
    return found


# Models


@pytest.mark.parametrize("family", ["qwen3", "deepseek_v3", "gpt2"])
def test_sizes_weigh_what_their_plans_weigh(tmp_path: Path, family: str) -> None:
    _, student = save_pair(tmp_path, family)
    pair = open_pair(student)
    for dtype in ("auto", "float16"):
        planner = Planner(pair, dtype=dtype)
        for size in sizes_of(pair):
            plan = planner.plan(size.patched_blocks)
            assert planner.weigh(size.patched_blocks) == (plan.parameters, plan.size_bytes)
            assert size.depth == len(plan.sources)


def test_a_student_is_told_with_its_teacher_and_what_it_records(project: Path) -> None:
    found = told("student")
    assert (found["kind"], found["model_type"], found["depth"], found["order"]) == ("student", "qwen3", 5, "last")
    assert found["copied_teacher_layers"] == list(KEPT)
    assert found["made_of"]["teacher"]["license"] == {"license": "apache-2.0"}
    assert found["distillation"]["recipe"]["steps"] == 7
    assert [size["layers"] for size in found["sizes"]] == [0, 1, 2, 3]
    assert found["sizes"][0]["parameters"] == found["parameters"] < found["made_of"]["teacher"]["parameters"]


def test_a_teacher_is_told_with_the_sizes_that_it_can_give(project: Path) -> None:
    found = told("teacher")
    by_rule = json.loads(run("init-student", "teacher", "--dry-run", "--json").stdout)
    assert (found["kind"], found["notes"]) == ("teacher", [])
    assert found["copied_teacher_layers"] == by_rule["copied_teacher_layers"]
    assert found["sizes"][0]["parameters"] == by_rule["parameters"]
    assert found["sizes"][-1]["parameters"] == found["parameters"] == by_rule["teacher_parameters"]


def test_a_patched_model_is_told_layer_by_layer(project: Path) -> None:
    found = told("patched")
    made = json.loads(Path("patched/boomerang.json").read_text())
    assert (found["kind"], found["layers"], found["order"]) == ("patched", 2, "last")
    assert found["sources"] == made["layers"]
    assert (found["parameters"], found["bytes"]) == (made["parameters"], made["bytes"])
    assert found["tied_embeddings"] is False
    assert {role: origin["name"] for role, origin in found["made_of"].items()} == {
        "teacher": str(project / "teacher"),
        "student": str(project / "student"),
    }
    assert "0 the student's 0, 1-6 the teacher's 2-7" in run("info", "patched").stdout


def test_a_patched_model_that_is_a_student_has_the_sizes_that_are_left(project: Path, tmp_path: Path) -> None:
    shutil.copytree("patched", tmp_path / "patched")
    kept = [0, 2, 3, 4, 5, 6, 7]
    record = {"copied_teacher_layers": kept, "pruned_teacher_layers": [1], "teacher": str(project / "teacher")}
    (tmp_path / "patched" / "student_config.json").write_text(json.dumps(record))
    found = told(tmp_path / "patched")
    assert (found["kind"], found["layers"], found["copied_teacher_layers"]) == ("patched", 2, kept)
    assert [size["depth"] for size in found["sizes"]] == [7, 8]
    assert any(shlex.split(command)[1] == "distill" for command in found["next"])


def test_a_student_before_its_training_is_told_as_such(project: Path, tmp_path: Path) -> None:
    run("init-student", "teacher", "-o", tmp_path / "init", "--quiet")
    result = run("info", tmp_path / "init")
    assert "a student before distillation" in result.stdout
    assert f"hint: distil it: `boomerang distill {tmp_path}/init`" in result.stderr


def test_a_student_without_its_teacher_has_depths_and_a_reason(project: Path, tmp_path: Path) -> None:
    shutil.copytree("student", tmp_path / "student")
    edit_json(tmp_path / "student" / "student_config.json", teacher="/gone")
    found = told(tmp_path / "student")
    assert [(size["depth"], size["parameters"]) for size in found["sizes"]] == [
        (5, None),
        (6, None),
        (7, None),
        (8, None),
    ]
    assert "no model at /gone" in found["notes"][0]
    assert run("info", tmp_path / "student").stdout.splitlines()[-5:] == [
        "k  depth", "0      5", "1      6", "2      7", "3      8"
    ]  # fmt: skip


def test_the_head_of_a_tied_model_that_is_stored_twice_counts_once(project: Path, tmp_path: Path) -> None:
    pair = save_pair(tmp_path, "qwen3")
    from safetensors.torch import load_file, save_file

    weights = load_file(pair[0] / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, pair[0] / "model.safetensors", metadata={"format": "pt"})
    assert told(pair[0])["parameters"] == told("teacher")["parameters"]


def test_a_folder_says_what_its_boomerang_json_does_not_fit(project: Path, tmp_path: Path) -> None:
    shutil.copytree("teacher", tmp_path / "model")
    shutil.copy("patched/boomerang.json", tmp_path / "model")
    assert_refused("info", tmp_path / "model", message=r"boomerang\.json does not tell where the model's 8 layers come")


def test_what_strangers_wrote_is_printed_without_escapes(project: Path, tmp_path: Path) -> None:
    shutil.copytree("student", tmp_path / "student")
    edit_json(tmp_path / "student" / "student_config.json", distillation={"recipe": {"steps": 1, "data": ["\x1b[2J"]}})
    assert "\x1b" not in run("info", tmp_path / "student").stdout


def test_a_student_that_records_no_teacher_is_told_how_one_is_named(project: Path, tmp_path: Path) -> None:
    shutil.copytree("student", tmp_path / "healed", ignore=shutil.ignore_patterns("student_config.json"))
    record = json.loads(Path("student/student_config.json").read_text())
    layers = {key: record[key] for key in ("copied_teacher_layers", "pruned_teacher_layers")}
    edit_json(tmp_path / "healed" / "config.json", boomerang=layers)
    found = told(tmp_path / "healed")
    assert "records none in config.json" in found["notes"][0]
    command = f"boomerang patch --layers 2 --student {tmp_path}/healed --teacher TEACHER"
    assert found["next"][0] == command


def test_a_patched_model_that_is_the_teacher_is_not_to_be_trained(project: Path, tmp_path: Path) -> None:
    whole = patch(layers=3, student="student", output=tmp_path / "whole").path
    assert [shlex.split(command)[1] for command in told(whole)["next"]] == ["push"]


# The Hub


def test_a_student_of_the_hub_is_told_by_ranges(project: Path, hub: HubDouble) -> None:
    for name in ("teacher", "student", "patched"):
        hub.add_model(f"lab/{name}", project / name)
    edited = {**json.loads(Path("student/student_config.json").read_text()), "teacher": "lab/teacher"}
    hub.add_model("lab/student", {**hub.files("lab/student"), "student_config.json": json.dumps(edited).encode()})
    found = told("lab/student")
    assert (found["name"], found["kind"], len(found["revision"])) == ("lab/student", "student", 40)
    assert found["sizes"] == told("student")["sizes"]
    assert told("lab/patched")["layers"] == 2
    assert not hub.seen("GET", "/resolve/.*tokenizer")


def test_a_name_that_is_nothing_is_one_line(project: Path) -> None:
    assert_refused("info", "nowhere", message="no model at nowhere: neither a folder nor a Hub id")


# Sweeps, trainings, projects


@pytest.fixture(scope="module")
def scored(made: Path) -> Path:
    """A sweep of the pair, elsewhere."""
    folder = made.with_name(f"{made.name}-scored")
    text = folder / "text.txt"
    folder.mkdir()
    text.write_text(" ".join(f"w{number % 60 + 3}" for number in range(100)))
    options = ("--data", text, "--sequence-length", "16", "-o", folder / "sweep", "--quiet")
    run("sweep", "--student", made / "student", *options)
    return folder / "sweep"


def test_a_sweep_is_told_with_its_rows(scored: Path, tmp_path: Path) -> None:
    found, results = told(scored), json.loads((scored / "results.json").read_text())
    assert (found["kind"], found["finished"], found["order"]) == ("sweep", True, "last")
    assert found["rows"] == results["rows"]
    shutil.copytree(scored, tmp_path / "sweep")
    (tmp_path / "sweep" / "results.json").unlink()
    assert told(tmp_path / "sweep")["finished"] is False


def test_a_sweep_beside_it_gives_a_student_its_scores(project: Path, tmp_path: Path, scored: Path) -> None:
    shutil.copytree(scored, project / "sweep")
    try:
        found, results = told("student"), json.loads((scored / "results.json").read_text())
        assert [size["scores"]["kl"] for size in found["sizes"]] == [row["kl"] for row in results["rows"]]
        assert found["scored_on"] == results["data"]
        assert "scored on" in run("info", "student").stdout
    finally:
        shutil.rmtree(project / "sweep")


def test_a_student_has_the_sizes_of_the_order_that_its_sweep_found_best(project: Path, scored: Path) -> None:
    shutil.copytree(scored, project / "sweep")
    try:
        order = json.loads((scored / "order.json").read_text())
        sets = [[], [0], [0, 3], [0, 1, 3]]
        edit_json(project / "sweep" / "order.json", order="greedy", patched_blocks=sets)
        found = told("student")
        assert [size["patched_blocks"] for size in found["sizes"]] == sets != order["patched_blocks"]
        assert found["order"] == "greedy"
        wanted = json.loads(run("patch", "--layers", "1", "--student", "student", "--dry-run", "--json").stdout)
        assert wanted["patched_blocks"] == [0]
    finally:
        shutil.rmtree(project / "sweep")


def test_a_sweep_recommends_what_it_recommended(project: Path, scored: Path) -> None:
    found, results = told(scored), json.loads((scored / "results.json").read_text())
    assert found["recommended"] == results["recommended"]
    if results["recommended"]["knee"]:
        (command, *_) = found["next"]
        run(*shlex.split(command)[1:], "--dry-run")


def test_a_sweep_of_a_project_that_was_moved_names_what_is_there(project: Path, scored: Path, tmp_path: Path) -> None:
    shutil.copytree(scored, tmp_path / "sweep")
    edit_json(tmp_path / "sweep" / "results.json", student="/gone/student")
    assert "/gone" not in told(tmp_path / "sweep")["next"][0]
    shutil.copytree("student", tmp_path / "student")
    record = json.loads((tmp_path / "student" / "student_config.json").read_text())
    (tmp_path / "student" / "student_config.json").write_text(json.dumps({**record, "teacher": None}))
    edit_json(tmp_path / "sweep" / "results.json", student=str(tmp_path / "student"))
    assert f"--teacher {project}/teacher" in told(tmp_path / "sweep")["next"][0]


def test_results_without_rows_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"rows": [{"layers": 1}]}')
    assert_refused("info", tmp_path, message=r"results\.json holds no rows of a sweep")


def test_a_training_is_told_with_its_newest_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "student.training" / "checkpoint-5"
    folder.mkdir(parents=True)
    progress = {"step": 5, "recipe": {"steps": 9}, "student_init": "init", "losses": {"total": 2.5}}
    (folder / "progress.json").write_text(json.dumps(progress))
    found = told(tmp_path / "student.training")
    assert (found["kind"], found["step"], found["steps"]) == ("training", 5, 9)
    assert found["output"] == str(tmp_path / "student")
    assert shlex.split(found["next"][0])[:3] == ["boomerang", "distill", "init"]


def test_a_project_says_what_is_in_it(project: Path) -> None:
    assert_refused("info", ".", message=r"\. is a folder with patched, student, teacher in it: .* such as patched")


# Speed, and what is loaded


@pytest.fixture(scope="module")
def loaded_by_info(made: Path) -> set[str]:
    return loaded("-m", "boomerang_cli", "info", str(made / "patched"))


def test_info_loads_no_library(loaded_by_info: set[str]) -> None:
    assert "boomerang_cli.engine.publishing.model_info" in loaded_by_info
    assert not loaded_by_info & (HEAVY - {"email", "logging", "importlib.metadata", "concurrent.futures"})


def test_info_takes_less_than_half_a_second_of_a_processor(made: Path) -> None:
    command = [sys.executable, "-m", "boomerang_cli", "info", str(made / "student"), "--json"]
    before = processor_seconds_of_children()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert processor_seconds_of_children() - before < 0.5


def test_the_verb_returns_what_the_command_prints(project: Path) -> None:
    assert info("student").kind == told("student")["kind"] == "student"
