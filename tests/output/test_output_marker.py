"""``--overwrite``: an output takes the place of its like, and of nothing that somebody else put there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from files import names
from running import assert_refused, run
from tiny_models import save_pair

from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint
from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.output.output_folder import check_output, output_folder
from boomerang_cli.engine.output.output_marker import MARKER_FILE, Kind, claim, foreign_names, write_marker
from boomerang_cli.engine.output.plan import companions
from boomerang_cli.engine.patch import patch
from boomerang_cli.engine.publishing.publication import prepare


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pair, a student before distillation in ``init``, and a patched model in ``patched``."""
    save_pair(tmp_path, "gpt_neox")
    monkeypatch.chdir(tmp_path)
    init_student("teacher", output="init")
    patch(layers=1, output="patched")
    return tmp_path


def write(folder: str, kind: Kind, *files: str) -> Path:
    with output_folder(Path(folder), kind) as made:
        for name in files:
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            (made / name).write_text(name)
    return Path(folder)


def refused(folder: Path | str, kind: Kind) -> str:
    with pytest.raises(OutputError) as raised:
        check_output(Path(folder), kind, overwrite=True)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_each_output_says_what_it_is_and_what_belongs_to_it() -> None:
    for folder, kind in (("init", "student-init"), ("patched", "patched")):
        marker = json.loads(Path(folder, MARKER_FILE).read_text())
        assert (marker["kind"], sorted(marker["files"])) == (kind, names(Path(folder)))


def test_the_record_stays_on_this_disk() -> None:
    assert MARKER_FILE not in prepare(Path("patched"), "owner/name").sizes
    assert MARKER_FILE not in [file.name for file in companions(open_checkpoint("patched").files)]


def test_an_output_takes_the_place_of_its_like() -> None:
    for command in (["init-student", "teacher", "-o", "init"], ["patch", "--layers", "2", "-o", "patched"]):
        run(*command, "--overwrite")
    assert json.loads(Path("patched", "boomerang.json").read_text())["patched_blocks"] == [1, 3]


@pytest.mark.parametrize("made_by", ["results.json", "config.json", "journal.jsonl", "student-init"])
def test_a_folder_of_somebodys_own_work_stays_whatever_its_files_are_called(made_by: str) -> None:
    Path("thesis", "data").mkdir(parents=True)
    for name in (made_by, "thesis.tex", "notes.md", "data/table.csv"):
        Path("thesis", name).write_text("years of work")
    for command in (["init-student", "teacher"], ["patch", "--layers", "1"], ["demo"], ["sweep"]):
        message = r"thesis holds .*data.* and 1 more, and no record that boomerang wrote it, .*: give another --output"
        assert_refused(*command, "-o", "thesis", "--overwrite", message=message)
    assert names(Path("thesis")) == sorted([made_by, "thesis.tex", "notes.md", "data"])


@pytest.mark.parametrize("command", ["init-student teacher", "patch --layers 1", "demo", "sweep --data text.txt"])
def test_a_distilled_student_is_taken_by_none_but_another(command: str) -> None:
    made = write("distilled", "student", "config.json", "student_config.json")
    message = r"^error: distilled is a distilled student, which a.* does not replace: give another --output"
    assert_refused(*command.split(), "-o", "distilled", "--overwrite", message=message)
    assert names(made) == ["config.json", "student_config.json"]
    check_output(made, "student", overwrite=True)


@pytest.mark.parametrize("add", ["a file", "a folder", "an empty folder", "a link", "a folder in place of a file"])
def test_whatever_was_added_to_an_output_keeps_it(add: str) -> None:
    place = Path("patched", "mine" if add != "a folder in place of a file" else "config.json")
    {
        "a file": lambda: place.write_text("x"),
        "a folder": lambda: (place.mkdir(), (place / "config.json").write_text("x")),
        "an empty folder": place.mkdir,
        "a link": lambda: place.symlink_to("config.json"),
        "a folder in place of a file": lambda: (place.unlink(), place.mkdir()),
    }[add]()  # type: ignore[no-untyped-call]
    message = f"^error: patched holds {place.name}, which boomerang did not write there: give another"
    assert_refused("patch", "--layers", "2", "-o", "patched", "--overwrite", message=message)
    assert place.exists()


def test_of_many_foreign_names_a_few_are_listed_and_the_rest_counted() -> None:
    for number in range(5):
        Path("patched", f"run-{number}").touch()
    assert "holds run-0, run-1, run-2 and 2 more, which" in refused("patched", "patched")


@pytest.mark.parametrize(
    "marker",
    [
        "",
        "[]",
        '{"kind": "patched"}',
        '{"kind": 1, "files": {"a": "b"}}',
        '{"kind": "patched", "files": {"config.json": [Infinity, 0]}}',
        "[" * 10**5,
    ],
)
def test_a_damaged_record_proves_nothing(marker: str) -> None:
    Path("patched", MARKER_FILE).write_text(marker)
    assert "config.json" in refused("patched", "patched")


def test_a_record_that_is_a_link_proves_nothing() -> None:
    shutil.copy(Path("patched", MARKER_FILE), "elsewhere")
    Path("patched", MARKER_FILE).unlink()
    Path("patched", MARKER_FILE).symlink_to("../elsewhere")
    assert "holds .boomerang" in refused("patched", "patched")


def test_an_empty_folder_may_be_replaced() -> None:
    Path("empty").mkdir()
    assert patch(layers=1, output="empty", overwrite=True).path == Path("empty")


@pytest.mark.parametrize("command", ["init-student teacher -o init", "patch --layers 1", "sweep -o patched-6L"])
def test_a_dry_run_tells_what_overwrite_would_refuse(command: str) -> None:
    folder = patch(layers=1).path if "init" not in command else Path("init")
    assert folder is not None
    (folder / "mine").touch()
    run(*command.split(), "--dry-run")
    for words in (["--overwrite", "--dry-run"], ["--overwrite"]):
        assert_refused(*command.split(), *words, message="does not replace|holds mine, which boomerang did not write")


def test_what_is_added_while_an_output_is_written_keeps_the_old_one() -> None:
    def add(done: int, total: int) -> None:
        Path("patched", "mine").touch()

    with pytest.raises(OutputError, match="patched holds mine"):
        patch(layers=2, output="patched", overwrite=True, on_progress=add)
    assert "mine" in names(Path("patched"))
    assert names(Path()) == ["init", "patched", "student", "teacher"]


def test_files_in_folders_and_of_any_name_belong_to_an_output() -> None:
    made = write("model", "patched", "a/b/c", "[x]*?")
    assert foreign_names(made, "patched") == []
    for name in ("a/d", "a/b/[x]", "x"):
        (made / name).touch()
    assert foreign_names(made, "patched") == ["a/b/[x]", "a/d", "x"]


def test_patterns_name_what_is_not_there_yet(tmp_path: Path) -> None:
    Path("run", "checkpoint-5", "inner").mkdir(parents=True)
    write_marker(Path("run"), "training", ["checkpoint-*/*"])
    for name in ("checkpoint-5/a", "checkpoint-5/inner/b", "checkpoint", "other"):
        Path("run", name).touch()
    assert foreign_names(Path("run"), "training") == ["checkpoint", "other"]


def test_what_a_kill_left_of_a_listed_file_is_no_strangers(tmp_path: Path) -> None:
    Path("swept").mkdir()
    write_marker(Path("swept"), "sweep", ["journal.jsonl"])
    claim(Path("swept"), "results.json", "7L/")
    for name in (".results.json.partial-x1", ".boomerang.partial-new", "..boomerang.partial-new"):
        Path("swept", name).touch()
    Path("swept", ".7L.partial-x2").mkdir()
    assert foreign_names(Path("swept"), "sweep") == [".boomerang.partial-new"]


def test_a_model_in_a_sweep_is_the_sweeps_as_long_as_nothing_was_added() -> None:
    Path("swept").mkdir()
    write_marker(Path("swept"), "sweep", ["journal.jsonl"])
    claim(Path("swept"), "7L/")
    shutil.copytree("patched", "swept/7L")
    assert foreign_names(Path("swept"), "sweep") == []
    Path("swept", "7L", "mine").touch()
    assert foreign_names(Path("swept"), "sweep") == ["7L/mine"]
    shutil.rmtree("swept/7L")
    shutil.copytree("student", "swept/7L")
    assert "7L/config.json" in foreign_names(Path("swept"), "sweep")


CHANGES: dict[str, Callable[[Path], Any]] = {
    "another model": lambda made: patch(layers=1, output=made / "patched-6L"),
    "a student that was trained on": lambda made: (made / "student" / "weights").write_text("better"),
    "notes": lambda made: (made / "notes.md").touch(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_demo_that_was_gone_on_with_is_not_replaced(change: str) -> None:
    made = write("shown", "demo", "text/train.txt", "student/weights", "student/.boomerang")
    check_output(made, "demo", overwrite=True)
    CHANGES[change](made)
    assert "which boomerang did not write there" in refused(made, "demo")
