"""``boomerang demo``: a project folder that works, and a curve in characters."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from files import names
from running import assert_refused, run

from boomerang_cli.engine import demo as demos
from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint
from boomerang_cli.engine.distillation.interrupts import TrainingInterrupted
from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.rows import SweepResult, SweepRow
from boomerang_cli.engine.output.output_folder import check_output, output_folder


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A demo of two steps on a little text."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        for name in ("BOOMERANG_STUDENT", "BOOMERANG_TEACHER"):
            patched.delenv(name, raising=False)
        patched.setattr(demos, "WINDOWS", 2)
        patched.setattr(demos, "BATCH_SIZE", 2)
        training, held_out = demos.training_files()[:20], demos.held_out_files()[:3]
        patched.setattr(demos, "training_files", lambda: training)
        patched.setattr(demos, "held_out_files", lambda: held_out)
        result = run("demo", "--steps", 2)
    return folder / "boomerang-demo", result


def test_it_leaves_a_project_folder(shown: Any) -> None:
    folder, _ = shown
    assert names(folder) == ["patched-9L", "student", "student-init", "sweep", "text"]
    assert {"curve.png", "order.json", "results.csv", "results.json"} <= {*names(folder / "sweep")}


def test_each_command_that_it_shows_is_one_that_can_be_typed(
    shown: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line.removeprefix("$ boomerang ") for line in shown[1].stderr.splitlines() if line.startswith("$ boomera")]
    assert [shlex.split(line)[0] for line in lines] == ["init-student", "distill", "patch", "sweep"]
    for line in lines:
        flags = {word for word in shlex.split(line) if word.startswith("--")}
        assert flags <= {*run(shlex.split(line)[0], "--help").stdout.replace(",", " ").split()}


def test_it_begins_with_what_is_to_come_and_how_long(shown: Any) -> None:
    first, second, *_ = shown[1].stderr.splitlines()
    assert first == "A small built-in teacher goes through the whole pipeline, with no network or GPU"
    assert second == "About 1 minute on two cores; all of it goes to boomerang-demo, Ctrl-C stops it"


def test_each_step_says_one_line_of_what_it_made(shown: Any) -> None:
    lines = shown[1].stderr.split("$ mkdir")[1].split("$ boomerang sweep")[0].splitlines()[1:]
    told = [line.split(":")[0] for line in lines if not line.startswith(("$", "Distilling", "Loading"))]
    assert told == ["student-init", "student", "patched-9L"]


def test_it_ends_in_one_screen(shown: Any) -> None:
    _, result = shown
    end = result.output[result.output.index("order  k") :].splitlines()
    assert "never distilled" in result.stdout
    assert "perplexity (log)" in result.stdout
    assert 24 <= sum(-(-max(1, len(line)) // 80) for line in end) <= 40
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "\nseen: " in result.stderr


def test_samples_are_shown_where_they_are_asked_for_alone(shown: Any) -> None:
    assert "---" not in shown[1].stderr
    assert "--prompt" not in shown[1].stderr
    assert "samples.md" not in names(shown[0] / "sweep")


def scored(*_: Any) -> SweepResult:
    """What a demo of two blocks scores in the current folder."""
    Path("student").mkdir()
    baseline = {"perplexity": 9.0, "kl": 0.9}
    rows = tuple(
        SweepRow(
            k, k + 3, k * 1000 + 3000, 1, "last", (0, 1)[:k], perplexity=9.0 - k, kl=0.4 - k / 5, baseline=baseline,
            samples=({"prompt": "def ", "text": f"f{k}()\n"},),
        ) for k in range(3)
    )  # fmt: skip
    return SweepResult(Path("sweep"), "builtin:demo", str(Path.cwd() / "student"), ("text/held-out.txt",), rows)


def test_json_has_paths_that_hold_where_it_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demos, "_run", scored)
    told = json.loads(run("demo", "-o", "a b/project", "--json", "--quiet").stdout)
    assert (told["path"], told["data"]) == ("a b/project/sweep", ["a b/project/text/held-out.txt"])
    assert Path(told["student"]) == tmp_path / "a b" / "project" / "student"
    assert Path(told["student"]).is_dir()


def test_what_each_size_writes_is_shown_with_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demos, "_run", scored)
    said = run("demo", "--samples").stderr
    assert "--- 3 layers (student) write:\ndef f0()\n" in said
    assert "--- 5 layers (teacher) write:\ndef f2()\n" in said
    assert "seen: 1 of 1 untrained sizes are closer to the teacher than without distilling (mean KL 0.200, not" in said


def test_too_little_room_is_told_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demos.shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000, total=9_000_000))
    assert_refused("demo", message="takes 80.00 MB, and the disk of .* has 5.00 MB free: make")
    assert names(tmp_path) == []


def test_the_folder_works_as_it_is(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shown[0])
    assert json.loads(run("patch", "--layers", 3, "--dry-run", "--json").stdout)["depth"] == 10


def test_builtin_teacher_is_a_model_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_checkpoint("builtin:demo").name == "builtin:demo"
    made = json.loads(run("init-student", "builtin:demo", "--json").stdout)
    assert (made["teacher"], made["teacher_layers"]) == ("builtin:demo", 12)


def test_a_folder_that_exists_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("boomerang-demo").mkdir()
    assert_refused("demo", message="boomerang-demo exists: give another --output, or --overwrite")


def test_a_project_of_its_own_may_be_overwritten_and_a_folder_of_somebodys_may_not(shown: Any, tmp_path: Path) -> None:
    check_output(shown[0], "demo", overwrite=True)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-my-mother.txt").write_text("Dear")
    assert_refused("demo", "-o", tmp_path / "letters", "--overwrite", message="holds to-my-mother.txt, and no record")
    assert names(tmp_path / "letters") == ["to-my-mother.txt"]


def test_what_the_project_records_is_where_it_stands(shown: Any) -> None:
    records = [path.read_text() for path in shown[0].rglob("*.json*")]
    assert any(f'"{shown[0]}/student-init"' in record for record in records)
    assert not any("partial-" in record for record in records)


def test_a_place_where_no_folder_can_be_made_is_one_line(tmp_path: Path) -> None:
    assert_refused("demo", "-o", "/proc/nothing", "--quiet", message="^error: /proc/nothing cannot be written: ")
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "demo"
    assert_refused("demo", "-o", place, "--quiet", message="file/demo cannot be written: .*/file is no folder$")


def interrupt_in_training(steps: int, *_: Any) -> Any:
    Path("student.training", "checkpoint-3").mkdir(parents=True)
    Path("student.training", "checkpoint-3", "progress.json").write_text(json.dumps(str(Path.cwd() / "student-init")))
    raise TrainingInterrupted(Path("student.training", "checkpoint-3"), 3, steps)


def test_an_interrupted_training_is_named_as_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demos, "_run", interrupt_in_training)
    said = run("demo", "-o", "déjà vu", "--steps", 9, "--quiet", code=130).stderr
    saved = Path("déjà vu", "student.training", "checkpoint-3")
    assert said == f"error: interrupted after step 3 of 9, saved in {saved}: go on in déjà vu with the same " \
                   "`boomerang distill` and --resume\n"  # fmt: skip
    assert json.loads((saved / "progress.json").read_text()) == str(tmp_path / "déjà vu" / "student-init")
    assert names(tmp_path) == ["déjà vu"]


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), ScoringError("no"), OSError(28, "No space left on device")])
def test_an_earlier_project_stays_until_the_new_one_stands(
    problem: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        Path("student").mkdir()
        raise problem

    monkeypatch.chdir(tmp_path)
    with output_folder(Path("project"), "demo") as made:
        (made / "student").write_text("distilled for hours")
    monkeypatch.setattr(demos, "_run", fail)
    code = 130 if isinstance(problem, KeyboardInterrupt) else 1
    assert "unexpected" not in run("demo", "-o", "project", "--overwrite", "--quiet", code=code).stderr
    assert Path("project", "student").read_text() == "distilled for hours"
    assert names(tmp_path) == ["project"]


def test_zero_steps_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused("demo", "--steps", 0, message="--steps 0 must be 1 or more")
    assert names(tmp_path) == []
