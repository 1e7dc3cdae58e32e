"""The words and exit codes of ``init-student`` and ``patch``, as a person in a project folder meets them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from files import names
from running import assert_refused, run
from tiny_models import load, make_config, make_model, make_tokenizer

INIT_STUDENT_KEYS = [
    "path", "teacher", "copied_teacher_layers", "pruned_teacher_layers", "teacher_layers", "student_layers",
    "patchable_blocks", "parameters", "teacher_parameters", "bytes", "portable", "misread_sizes", "layer_kinds",
    "weight_delta", "forecast", "verified",
]  # fmt: skip
PATCH_KEYS = [
    "path", "layers", "depth", "parameters", "student_parameters", "teacher_parameters", "bytes", "dtype", "order",
    "patched_blocks", "tied_embeddings", "portable", "misreaders", "sources", "seconds",
]  # fmt: skip


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder beside a teacher of eight layers."""
    teacher = tmp_path / "teacher"
    make_model(make_config("gpt_neox"), 1).save_pretrained(teacher)
    make_tokenizer().save_pretrained(teacher)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_two_commands_take_a_teacher_to_an_intermediate_model() -> None:
    assert run("init-student", "../teacher").stdout == "student-init\n"
    Path("student-init").rename("student")
    assert run("patch", "--layers", "2").stdout == "patched-7L\n"
    assert load(Path("patched-7L")).config.num_hidden_layers == 7


def test_a_bar_says_that_a_dry_run_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[str] = []

    def progress(label: str) -> AbstractContextManager[Callable[[int, int], None]]:
        labels.append(label)
        return nullcontext(lambda done, total: None)

    monkeypatch.setattr("boomerang_cli.cli.output.byte_progress", progress)
    for made in (["init-student", "../teacher"], ["patch", "--student", "student-init", "--layers", "1"]):
        run(*made, "--dry-run")
        run(*made)
    assert labels == ["Reading headers", "Writing the student", "Reading headers", "Writing the model"]


def test_what_was_done_and_what_comes_next_stand_on_stderr() -> None:
    shown = run("init-student", "../teacher").stderr
    assert re.search(r"5 of 8 layers kept \(0,2,4,6,7\), .* parameters, .* 3 patchable blocks", shown)
    assert "`boomerang distill`" in shown
    shown = run("patch", "--student", "student-init", "--layers", "1").stderr
    assert re.search(r"6 layers, blocks patched: 2 \(order last\), .*, float32, untied embeddings", shown)


def test_the_hint_names_a_folder_of_the_users_own() -> None:
    assert "`boomerang distill 'my student'`" in run("init-student", "../teacher", "-o", "my student").stderr


def test_quiet_leaves_the_path_alone() -> None:
    result = run("init-student", "../teacher", "--quiet")
    assert (result.stdout, result.stderr) == ("student-init\n", "")


def test_json_of_init_student_has_the_documented_keys() -> None:
    made = json.loads(run("init-student", "../teacher", "--json").stdout)
    assert list(made) == INIT_STUDENT_KEYS
    assert (made["copied_teacher_layers"], made["patchable_blocks"]) == ([0, 2, 4, 6, 7], 3)


def test_json_of_patch_has_the_documented_keys() -> None:
    run("init-student", "../teacher")
    made = json.loads(run("patch", "--student", "student-init", "--layers", "1", "--json").stdout)
    assert [key for key in made if key in PATCH_KEYS] == PATCH_KEYS
    assert made["sources"][:2] == [{"owner": "student", "index": 0}, {"owner": "student", "index": 1}]


@pytest.mark.parametrize("command", ["init-student ../teacher", "patch --student student-init --layers 1"])
def test_a_dry_run_shows_the_plan_and_writes_nothing(command: str, project: Path) -> None:
    run("init-student", "../teacher")
    before = names(project)
    shown = run(*command.split(), "--dry-run", "--overwrite").stdout
    assert re.search(r"^file +size +tensors +copies\nmodel\.safetensors +[\d.]+ kB +\d+ +\d+\n", shown, re.MULTILINE)
    assert "tokenizer.json" in shown
    planned = json.loads(run(*command.split(), "--dry-run", "--overwrite", "--json").stdout)
    assert planned["files"][0]["bytes"] == planned["bytes"]
    assert names(project) == before


@pytest.mark.parametrize("command", ["init-student ../teacher", "patch --student student-init --layers 1"])
def test_a_dry_run_names_every_file_that_is_written(command: str) -> None:
    run("init-student", "../teacher")
    typed = (*command.split(), "--max-shard-size", "20kB", "--output", "made")
    planned = json.loads(run(*typed, "--dry-run", "--json").stdout)
    shown = run(*typed, "--dry-run").stdout
    run(*typed)
    written = {name for name in names(Path("made")) if name != ".boomerang"}
    assert "model.safetensors.index.json" in written
    assert {each["file"] for each in planned["files"]} == written
    assert written <= set(shown.split())


def test_a_student_that_was_never_distilled_is_warned_of_once() -> None:
    run("init-student", "../teacher")
    shown = run("patch", "--student", "student-init", "--layers", "1").stderr
    assert len(re.findall(r"warning: .*student-init was never distilled", shown)) == 1
    record = json.loads(Path("student-init/student_config.json").read_text())
    Path("student-init/student_config.json").write_text(json.dumps({**record, "distillation": {"steps": 1}}))
    assert "never distilled" not in run("patch", "--student", "student-init", "--layers", "2").stderr


def test_layers_of_which_none_is_left_out_are_refused() -> None:
    assert_refused(
        "init-student", "../teacher", "--keep", "0-7", message=r"--keep 0,1,.* keeps all 8 layers .* no block"
    )


def test_numbers_are_lists_and_ranges() -> None:
    made = json.loads(run("init-student", "../teacher", "--keep", "0,2-4,7", "--json").stdout)
    assert made["copied_teacher_layers"] == [0, 2, 3, 4, 7]


def test_an_output_that_exists_is_refused_in_one_line() -> None:
    run("init-student", "../teacher")
    assert_refused("init-student", "../teacher", message="^error: student-init exists: give another --output, or --ov")
    run("init-student", "../teacher", "--overwrite")


def test_a_pipe_gets_no_colours_and_no_bars() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "boomerang_cli", "init-student", "../teacher"], capture_output=True, check=True
    )
    assert b"\x1b" not in done.stdout + done.stderr


def test_file_work_imports_no_torch() -> None:
    run("init-student", "../teacher")
    for arguments in (
        ["init-student", "../teacher", "--overwrite"],
        ["patch", "--student", "student-init", "--layers", "1"],
    ):
        code = (
            "import sys\nfrom boomerang_cli.cli.app import app\n"
            f"try: app({arguments!r})\nexcept SystemExit as end: assert not end.code\n"
            "sys.exit(bool({'torch', 'transformers'} & sys.modules.keys()))"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
