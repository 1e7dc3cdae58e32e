"""Folders exchanged, and room reserved, by the system: and what happens where it cannot."""

from __future__ import annotations

import ctypes
import errno
import subprocess
import sys
from pathlib import Path

import pytest
from files import names, tensor_bytes
from running import assert_refused
from tiny_models import save_pair

import boomerang_cli.engine.output
from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.output import system_calls
from boomerang_cli.engine.output.system_calls import exchange, is_mount_point, reserve


def test_reserved_room_is_on_the_disk(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        reserve(file.fileno(), 3_000_000)
    assert (tmp_path / "file").stat().st_size == 3_000_000
    assert (tmp_path / "file").stat().st_blocks * 512 >= 3_000_000


@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_before_a_byte_is_moved(
    problem: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pair(tmp_path, "llama")
    refuse_with(problem, monkeypatch)
    with pytest.raises(OutputError, match="no space left on the disk"):
        init_student(tmp_path / "teacher", output=tmp_path / "new")
    assert names(tmp_path) == ["student", "teacher"]


def test_a_file_system_that_cannot_reserve_gets_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_pair(tmp_path, "llama")
    init_student(tmp_path / "teacher", output=tmp_path / "reserved")
    refuse_with(errno.EOPNOTSUPP, monkeypatch)
    init_student(tmp_path / "teacher", output=tmp_path / "refused")
    monkeypatch.setattr(system_calls, "_libc_function", lambda name: None)
    init_student(tmp_path / "teacher", output=tmp_path / "without")
    assert tensor_bytes(tmp_path / "refused") == tensor_bytes(tmp_path / "reserved")
    assert tensor_bytes(tmp_path / "without") == tensor_bytes(tmp_path / "reserved")


def test_two_folders_change_places(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchange(tmp_path / "one", tmp_path / "other")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["other"]
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["one"]


def test_a_mount_point_is_told_from_a_folder(tmp_path: Path) -> None:
    assert is_mount_point(Path("/proc"))
    assert not is_mount_point(tmp_path)


def test_a_folder_mounted_on_another_of_its_disk_is_a_mount_point(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    if subprocess.run(["mount", "--bind", tmp_path / "one", tmp_path / "other"], capture_output=True).returncode:
        pytest.skip("only root may mount")
    try:
        assert is_mount_point(tmp_path / "other")
    finally:
        subprocess.run(["umount", tmp_path / "other"], check=True)


@pytest.mark.parametrize("command", ["init-student x", "distill", "patch --layers 1", "sweep", "push x a/b", "demo"])
def test_a_system_without_locks_is_refused_in_one_line(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.delitem(sys.modules, "boomerang_cli.engine.output.system_calls")
    monkeypatch.delattr(boomerang_cli.engine.output, "system_calls")
    assert_refused(*command.split(), message="^error: boomerang runs on Linux and macOS: on Windows, use it under WSL$")


def refuse_with(problem: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the system refuse all of these calls."""

    def refuse(*_: object) -> int:
        ctypes.set_errno(problem)
        return -1

    monkeypatch.setattr(system_calls, "_libc_function", lambda name: refuse)
