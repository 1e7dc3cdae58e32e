"""A sweep's scores on the Hub: a student brings them along, and ``patch`` chooses by them where nobody swept."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from files import edit_json, flip
from hub_double import HubDouble
from huggingface_hub import snapshot_download
from running import assert_refused, run
from safetensors.torch import load_file, save_file
from tiny_models import VOCABULARY, save_pair

from boomerang_cli.engine.checkpoint import content_digest
from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint
from boomerang_cli.engine.checkpoint.content_digest import weights_digest
from boomerang_cli.engine.errors import PairError, SelectionError
from boomerang_cli.engine.evaluation.rows import SweepResult
from boomerang_cli.engine.info import info
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.patch import PatchResult, patch
from boomerang_cli.engine.publishing.model_info import ModelInfo
from boomerang_cli.engine.push import PushResult, push
from boomerang_cli.engine.sweep import sweep

STUDENT, TEACHER = "tester/student", "lab/teacher"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SweepResult]:
    """A project folder with a pair, the teacher's a folder too, and a sweep of two orders."""
    project = tmp_path_factory.mktemp("project")
    save_pair(project, "llama", max_position_embeddings=16)
    shutil.copy(project / "teacher" / "tokenizer.json", project / "student")
    edit_json(project / "student" / "student_config.json", teacher=str(project / "teacher"))
    numbers = torch.randint(3, VOCABULARY, (100,), generator=torch.Generator().manual_seed(5)).tolist()
    (project / "text.txt").write_text(" ".join(f"w{number}" for number in numbers))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(project)
        return project, sweep(data=["text.txt"], order=["first,greedy"], speed=True)


@pytest.fixture
def project(swept: tuple[Path, SweepResult], hub: HubDouble, monkeypatch: pytest.MonkeyPatch) -> Path:
    hub.add_model(TEACHER, swept[0] / "teacher")
    monkeypatch.chdir(swept[0])
    return swept[0]


@pytest.fixture
def elsewhere(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, after the student was published with its scores."""
    sent()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


def sent(path: str | Path = "student", **options: Any) -> PushResult:
    result = push(path, STUDENT, **{"teacher_id": TEACHER, **options})
    assert isinstance(result, PushResult)
    return result


def planned(**asked: Any) -> tuple[PatchResult, list[str]]:
    notes: list[str] = []
    result = patch(student=STUDENT, dry_run=True, on_note=notes.append, **asked)
    return result, [note for note in notes if "was never distilled" not in note]  # as the tests' students are


@pytest.mark.usefixtures("elsewhere")
def test_a_published_student_is_patched_by_a_bound_without_a_sweep(swept: tuple[Path, SweepResult]) -> None:
    middle = sorted(row.kl or 0 for row in swept[1].rows)[3]
    smallest = min((row for row in swept[1].rows if (row.kl or 0) <= middle), key=lambda row: row.parameters)
    found, notes = planned(max_kl=middle)
    assert (found.patched_blocks, found.scores["kl"]) == (smallest.patched_blocks, smallest.kl)
    assert notes == [f"{STUDENT}/sweep.json: order {smallest.order}, KL {smallest.kl:.4f} on text.txt"]


@pytest.mark.usefixtures("elsewhere")
def test_whole_models_in_the_cache_are_known_by_the_same_scores() -> None:
    patch(student=STUDENT, layers=1, output="whole", download=True)
    found, notes = planned(max_kl=0)
    assert (found.layers, "is not used" in notes[0]) == (3, False)


@pytest.mark.usefixtures("elsewhere")
def test_info_shows_the_scores_that_a_student_came_with(swept: tuple[Path, SweepResult]) -> None:
    found = info(STUDENT)
    assert isinstance(found, ModelInfo)
    assert found.scored_on == ("text.txt",)
    assert found.sizes[0].scores["kl"] == swept[1].rows[0].kl


def test_the_card_and_the_file_tell_what_was_measured_on_what(hub: HubDouble, project: Path) -> None:
    sent()
    files = hub.files(STUDENT)
    assert b"## Results" in files["README.md"]
    assert b"Measured on `text.txt`. Bold: this model." in files["README.md"]
    assert files["README.md"].count(b"| **5** |") == 1
    assert b"and `--max-kl 0.1` by the results above." in files["README.md"]
    content = json.loads(files["sweep.json"])
    assert content.keys() == {"data", "rows", "orders", "sha256"}
    assert not any("per_second" in name for row in content["rows"] for name in row)  # of another machine
    assert [order["order"] for order in content["orders"]][1:] == [
        each for each in ("first", "greedy") if each != content["orders"][0]["order"]
    ]
    assert str(project).encode() not in files["sweep.json"]


@pytest.mark.parametrize("which", ["student", "teacher"])
def test_scores_of_other_weights_are_not_used(hub: HubDouble, elsewhere: Path, which: str) -> None:
    repo = {"student": STUDENT, "teacher": TEACHER}[which]
    (elsewhere / "other").mkdir()
    for name, content in hub.files(repo).items():
        (elsewhere / "other" / name).write_bytes(content)
    tensors = load_file(elsewhere / "other" / "model.safetensors")
    last = max(tensors)
    save_file({**tensors, last: tensors[last] + 1}, elsewhere / "other" / "model.safetensors", {"format": "pt"})
    commit = hub.add_model(repo, elsewhere / "other")
    teacher = {"teacher": f"{TEACHER}@{commit}"} if which == "teacher" else {}
    found, notes = planned(layers=1, **teacher)
    assert found.scores == {}
    assert notes == [f"{STUDENT}/sweep.json is not used: it scored another {which}"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[]", "must hold a JSON object"),
        (b"no JSON", "is not JSON"),
        (b'{"rows": [], "orders": [], "sha256": {}}', "it holds no sweep"),
        (b'{"rows": [3], "orders": [[0, 1, 3]], "sha256": {}}', "it holds no sweep"),
        (b'{"rows": [], "orders": [[1]], "sha256": {}}', ""),
        (b'{"rows": [], "orders": [{"patched_blocks": 3}], "sha256": {}}', "holds neither a list of blocks nor"),
        (b'{"rows": [], "orders": [[0, 1, 3]], "sha256": {}}', "it scored another student and teacher"),
        (b'{"rows": [], "orders": [[0, 1, 3]], "sha256": {}, "data": ["\\u001b[2J"]}', "names that cannot be printed"),
    ],
)
@pytest.mark.usefixtures("elsewhere")
def test_a_strangers_file_that_holds_no_scores_is_told_and_left_aside(hub: HubDouble, content: bytes, why: str) -> None:
    hub.add_model(STUDENT, {**hub.files(STUDENT), "sweep.json": content})
    found, notes = planned(layers=1)
    assert found.scores == {}
    assert len(notes) == 1
    assert notes[0].startswith(f"{STUDENT}/sweep.json is not used: ")
    assert why in notes[0]
    assert notes[0].isprintable()


@pytest.mark.usefixtures("elsewhere")
def test_numbers_that_are_none_are_not_known(hub: HubDouble) -> None:
    content = json.loads(hub.files(STUDENT)["sweep.json"])
    content["rows"][0] |= {"kl": 10**400, "perplexity": float("nan"), "top1": True, "tasks": {"arc": {"acc": "high"}}}
    hub.add_model(STUDENT, {**hub.files(STUDENT), "sweep.json": json.dumps(content).encode()})
    assert planned(layers=0)[0].scores.keys() & {"kl", "perplexity", "top1"} == set()


def test_a_student_that_was_downloaded_takes_its_scores_along(hub: HubDouble, elsewhere: Path) -> None:
    for name, content in hub.files(STUDENT).items():
        (elsewhere / "mine").mkdir(exist_ok=True)
        (elsewhere / "mine" / name).write_bytes(content)
    before = json.loads(hub.files(STUDENT)["sweep.json"])
    result = push("mine", "tester/again")
    assert isinstance(result, PushResult)
    assert result.notes == ()
    assert json.loads(hub.files("tester/again")["sweep.json"]) == before


@pytest.mark.usefixtures("elsewhere")
def test_a_folder_that_hf_downloaded_is_known_without_reading_it(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot_download(STUDENT, local_dir="mine")
    with monkeypatch.context() as patched:
        patched.setattr(content_digest, "sha256_of", lambda path: pytest.fail(f"{path} is read"))
        assert patch(student="mine", max_kl=0, dry_run=True).layers == 3
    os.utime("mine/model.safetensors", (2e9, 2e9))  # changed since
    assert weights_digest(open_checkpoint("mine")) == weights_digest(open_checkpoint(STUDENT, download=False))


def test_scores_of_a_student_that_was_trained_on_are_not_sent(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "student", tmp_path / "student", copy_function=shutil.copy)
    flip(tmp_path / "student" / "model.safetensors", -1)
    result = sent(tmp_path / "student")
    assert "sweep.json" not in {each.file for each in result.files}
    assert result.notes[0].startswith("sweep is not used: it scored other files of the student")
    with pytest.raises(SelectionError, match="--results sweep scored other files of the student: sweep these"):
        sent(tmp_path / "student", results="sweep")


# The teacher, and what a push says


def test_a_teacher_on_this_disk_alone_is_a_warning_and_an_id_mends_it(hub: HubDouble, project: Path) -> None:
    words = ("push", "student", STUDENT)
    assert "warning: nobody else can make other sizes of this" in run(*words).stderr
    assert "teacher" not in json.loads(hub.files(STUDENT)["student_config.json"])
    assert "warning" not in run(*words, "--teacher-id", TEACHER).stderr
    recorded = json.loads(hub.files(STUDENT)["student_config.json"])
    assert (recorded["teacher"], recorded["teacher_revision"]) == (TEACHER, hub.commits(TEACHER)[0].oid)
    assert f"--student {STUDENT} --teacher {TEACHER} --layers K".encode() in hub.files(STUDENT)["README.md"]


@pytest.mark.usefixtures("project")
def test_the_teacher_that_ships_inside_is_everybodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    init_student("builtin:demo", output=tmp_path / "made")
    assert sent(tmp_path / "made", teacher_id=None).notes == ()
    assert planned(layers=1)[0].depth == 8


def test_a_size_is_published_with_the_teachers_id_too(hub: HubDouble, project: Path, tmp_path: Path) -> None:
    patch(layers=1, output=tmp_path / "size")
    sent(tmp_path / "size")
    files = hub.files(STUDENT)
    assert json.loads(files["boomerang.json"])["teacher"]["name"] == TEACHER
    assert f"--student {STUDENT} --teacher {TEACHER} --layers K".encode() in files["README.md"]


def test_a_teacher_of_other_students_is_refused_before_anything_is_sent(hub: HubDouble, project: Path) -> None:
    hub.add_model("lab/other", project / "student")
    with pytest.raises(PairError, match="do not belong together"):
        sent(teacher_id="lab/other")
    assert STUDENT not in hub.repos


def test_a_teacher_of_other_weights_is_told(hub: HubDouble, project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "teacher", tmp_path / "teacher")
    tensors = load_file(tmp_path / "teacher" / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in tensors.items()}, tmp_path / "teacher" / "model.safetensors")
    hub.add_model("lab/half", tmp_path / "teacher")
    assert sent(teacher_id="lab/half", dry_run=True).notes[0].startswith("warning: lab/half has other weights than ")


@pytest.mark.usefixtures("hub", "project")
def test_a_teacher_id_that_means_nothing_is_refused() -> None:
    assert_refused("push", "student", STUDENT, "--teacher-id", "teacher", message="give owner/name")
    assert_refused("push", "sweep", STUDENT, "--results", "sweep", message="--results belongs to a student")
    assert_refused("push", "teacher", STUDENT, "--results", "sweep", message=r"has no student_config\.json: leave")


@pytest.mark.usefixtures("project")
def test_a_second_push_without_a_change_says_so() -> None:
    assert sent().changed
    shown = run("push", "student", STUDENT, "--teacher-id", TEACHER)
    assert f"nothing to upload: {STUDENT} holds all of these files already" in shown.stderr
    assert sent(message="Another").changed is False
    (Path("student") / "LICENSE").write_text("Apache")
    assert sent().changed
    (Path("student") / "LICENSE").unlink()
