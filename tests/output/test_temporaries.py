"""Temporary models: inside the partial-folder scheme, whatever ends the command."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from files import names
from hub_double import HubDouble
from running import run
from tiny_models import save_pair

from boomerang_cli.cli import signals
from boomerang_cli.engine import init_student as init_students
from boomerang_cli.engine import patch as patches
from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.output.output_folder import output_folder, temporary_folder
from boomerang_cli.engine.publishing import upload
from boomerang_cli.engine.push import push

REPO = "tester/model"


@pytest.fixture
def temporaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporaries"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return save_pair(tmp_path, "llama")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_push_and_leaves_nothing(
    number: signal.Signals, code: int, hub: HubDouble, pair: tuple[Path, Path], temporaries: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    found: list[list[str]] = []

    def sent_a_signal(*arguments: object) -> None:
        found.append(names(temporaries))
        os.kill(os.getpid(), number)

    monkeypatch.setattr(upload, "_make_ready", sent_a_signal)
    result = run("patch", "--layers", "1", "--student", pair[1], "--teacher", pair[0], "--push", REPO, code=code)
    assert len(found[0]) == 2  # the model, and what is sent of it
    assert result.stderr.splitlines()[-1] == f"error: ended by {number.name}"
    assert names(temporaries) == []
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.ending_signals_raise():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_processes_of_a_launcher_are_left_to_its_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with signals.ending_signals_raise():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_child_that_was_forked_dies_of_the_signal_alone() -> None:
    with signals.ending_signals_raise():
        if not (child := os.fork()):
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_what_a_killed_run_left_is_removed_by_the_next_and_nothing_else(temporaries: Path, tmp_path: Path) -> None:
    (temporaries / ".boomerang.partial-left").mkdir()
    (temporaries / ".boomerang.partial-left" / "model.safetensors").write_bytes(b"x")
    (temporaries / ".other.partial-left").mkdir()
    with temporary_folder() as at_work:
        assert names(temporaries) == sorted([at_work.name, ".other.partial-left"])
        (temporaries / ".boomerang.partial-left").mkdir()
        with output_folder(tmp_path / "model", "patched"):
            assert names(temporaries) == sorted([at_work.name, ".other.partial-left"])
    assert names(temporaries) == [".other.partial-left"]


def test_what_is_somebody_elses_is_left_to_them(temporaries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (temporaries / ".boomerang.partial-theirs").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with temporary_folder():
        assert ".boomerang.partial-theirs" in names(temporaries)


def test_without_a_place_for_temporary_folders_the_way_out_is_told(temporaries: Path) -> None:
    temporaries.rmdir()
    with pytest.raises(OutputError, match="no temporary folder can be made: No such file or directory: set TMPDIR"):
        temporary_folder().__enter__()


def test_random_weights_are_drawn_in_a_temporary_folder(
    pair: tuple[Path, Path], temporaries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        assert [name.startswith(".boomerang.partial-") for name in names(temporaries)] == [True]
        raise KeyboardInterrupt

    monkeypatch.setattr(init_students, "with_random_weights", fail)
    with pytest.raises(KeyboardInterrupt):
        init_students.init_student(pair[0], output=tmp_path / "made", random_init=True)
    assert names(temporaries) == []


def test_push_needs_no_cache_that_may_be_written(
    hub: HubDouble, pair: tuple[Path, Path], temporaries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("no folder can be made here, not even by root")
    hub.add_model(REPO, {"README.md": b"# Mine"})
    patches.patch(layers=1, student=pair[1], teacher=pair[0], push=REPO)
    assert hub.files(REPO)["README.md"] == b"# Mine"
    assert names(temporaries) == []


@pytest.mark.parametrize("may_write", [True, False])
def test_the_fast_transfer_gets_a_cache_where_its_own_may_not_be_written(
    may_write: bool, temporaries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_XET_CACHE", "its own")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(os, "access", lambda path, mode: may_write)  # root may write everywhere
    with upload.writable_xet_cache():
        assert os.environ["HF_XET_CACHE"] == ("its own" if may_write else str(next(temporaries.iterdir())))
    assert names(temporaries) == []


def test_a_card_that_changes_while_it_is_read_does_no_harm(
    hub: HubDouble, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import file_download

    http_get = file_download.http_get

    def after_another_commit(*arguments: object, **options: object) -> None:
        hub.add_model(REPO, {"README.md": b"# Mine, and longer than it was"})
        http_get(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(file_download, "http_get", after_another_commit)
    hub.add_model(REPO, {"README.md": b"# Mine"})
    patches.patch(layers=1, student=pair[1], teacher=pair[0], output=tmp_path / "model")
    push(tmp_path / "model", REPO)
    assert hub.files(REPO)["README.md"] == b"# Mine, and longer than it was"


def test_a_disk_too_small_for_what_is_on_its_way_is_told_before_a_byte_is_written(
    hub: HubDouble, pair: tuple[Path, Path], temporaries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(temporaries)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(OutputError, match="temporaries has 10 free: make room, or set TMPDIR to a larger disk"):
        patches.patch(layers=1, student=pair[1], teacher=pair[0], push=REPO)
    assert names(temporaries) == []


def test_chat_templates_are_sent_in_their_folder(hub: HubDouble, pair: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copy(pair[0] / "tokenizer.json", pair[1])
    (pair[1] / "additional_chat_templates").mkdir()
    (pair[1] / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    push(pair[1], REPO)
    assert hub.files(REPO)["additional_chat_templates/tools.jinja"] == b"{{ tools }}"
