"""Which training goes on: the same by content, wherever it was moved, in a folder that is its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distilling import distil, make_project, write_text
from files import edit_json, names
from tiny_models import LAYERS

from boomerang_cli.engine.distillation import finish as module
from boomerang_cli.engine.distillation import training_folder
from boomerang_cli.engine.distillation.training_folder import TrainingFolder
from boomerang_cli.engine.errors import OutputError, TrainingError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose training was broken off in its third step."""
    folder = make_project(tmp_path_factory.mktemp("made") / "project")
    (folder / "text").mkdir()
    for seed in (1, 2):
        write_text(folder / "text" / f"{seed}.txt", documents=60, seed=seed)

    def stop(progress: Any) -> None:
        if progress.step == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        distil(folder, data=[str(folder / "text")], save_every=2, on_progress=stop)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """The same project in another place."""
    moved = Path(shutil.copytree(made, tmp_path / "moved"))
    edit_json(moved / "student-init" / "student_config.json", teacher=str(moved / "teacher"))
    return moved


def resume(folder: Path, **changes: Any) -> Any:
    return distil(folder, resume=True, **{"data": [str(folder / "text")], **changes})


def test_a_project_that_was_moved_goes_on(project: Path) -> None:
    assert names(project / "student.training") == ["checkpoint-2"]
    shutil.move(project / "text", project / "elsewhere")
    assert resume(project, data=[str(project / "elsewhere")]).steps == 6
    assert names(project) == ["elsewhere", "held-out.txt", "student", "student-init", "teacher", "train.txt"]
    assert str(project.parent) not in (project / "student" / "metrics.jsonl").read_text()


def other_weights(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / name / "model.safetensors").open("r+b") as file:
            file.seek(-4, 2)
            file.write(b"\1\2\3\4")

    return change


def other_layers(folder: Path) -> None:
    kept = [0, 1, 4, 5, 7]
    pruned = sorted(set(range(LAYERS)) - set(kept))
    edit_json(folder / "student-init" / "student_config.json", copied_teacher_layers=kept, pruned_teacher_layers=pruned)


def other_tokenizer(folder: Path) -> None:
    path = folder / "teacher" / "tokenizer.json"
    path.write_text(path.read_text().replace('"w3"', '"three"'))


def more_text(folder: Path) -> None:
    shutil.copy(folder / "text" / "1.txt", folder / "text" / "3.txt")


def other_text(folder: Path) -> None:
    path = folder / "text" / "2.txt"
    path.write_text(path.read_text().replace("w3", "w4"))


@pytest.mark.parametrize(("change", "message"), [
    (other_weights("student-init"), "had another student-init: other weights;"),
    (other_weights("teacher"), "had another teacher: other weights;"),
    (other_layers, r"had another student-init: kept layers 0,1,4,5,7 \(was 0,2,4,5,7\); give the one"),
    (other_tokenizer, "had another teacher: other tokenizer;"),
    (more_text, "had another text: other --data;"),
    (other_text, "had another text: other --data;"),
])  # fmt: skip
def test_what_is_not_the_same_is_refused_and_named(project: Path, change: Callable[[Path], None], message: str) -> None:
    change(project)
    with pytest.raises(TrainingError, match=message):
        resume(project)
    assert names(project / "student.training") == ["checkpoint-2"]


def test_a_training_of_a_version_that_recorded_paths_alone_is_refused(project: Path) -> None:
    path = project / "student.training" / "checkpoint-2" / "progress.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "contents": None}))
    with pytest.raises(TrainingError, match="begun by a version that did not record what it is made of"):
        resume(project)


# The folder


def test_a_second_training_of_one_output_is_refused(project: Path) -> None:
    folder = TrainingFolder.of(project / "student")
    with folder.held():
        for options in ({"resume": True}, {"overwrite": True}, {}):
            with pytest.raises(OutputError, match=r"another distillation is writing .*student\.training: wait for it"):
                distil(project, **options)
    assert names(folder.path) == ["checkpoint-2"]


def test_a_folder_is_there_from_the_start_and_goes_if_nothing_was_saved(project: Path) -> None:
    folder = TrainingFolder.of(project / "new" / "student")
    with folder.held():
        assert names(folder.path) == []
    assert not (project / "new").exists()


def test_overwrite_refuses_what_no_training_wrote_and_lists_it(project: Path) -> None:
    notes = project / "student.training" / "checkpoint-2" / "deep" / "notes.md"
    notes.parent.mkdir()
    notes.write_text("mine")
    for options in ({}, {"dry_run": True}):
        with pytest.raises(OutputError, match=r"training holds checkpoint-2/deep/notes\.md, which boomerang did not"):
            distil(project, overwrite=True, **options)
    assert notes.read_text() == "mine"


def test_a_process_that_was_forked_does_not_hold_the_folder(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "student.training")
    with folder.held():
        (folder.path / "checkpoint-1").mkdir()
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:  # as the one that reads the text, when the training is killed
            os.write(tell, b".")
            time.sleep(60)
            os._exit(0)
        os.read(told, 1)
    try:
        folder.check_free()
        with folder.held():
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_what_somebody_put_beside_the_checkpoints_stays(project: Path) -> None:
    (project / "student.training" / "notes.md").write_text("mine")
    resume(project)
    assert names(project / "student.training") == ["notes.md"]


# Durability


def full(path: Path) -> None:
    raise OSError(28, "No space left on device")


def test_older_checkpoints_stay_until_the_new_one_is_on_the_disk(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_folder, "sync_tree", full)
    with pytest.raises(TrainingError, match=r"step 3 could not be saved .*No space left .*checkpoint-2 with --resume"):
        resume(project, save_every=1)
    assert names(project / "student.training") == ["checkpoint-2"]


def test_the_training_stays_until_the_student_is_on_the_disk(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sync_tree", full)
    with pytest.raises(OutputError, match=r"student cannot be written: No space .*the training is kept in .*training"):
        resume(project)
    assert names(project / "student.training") == ["checkpoint-6"]
