"""The writer: all of a folder or nothing, whatever happens on the way."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import stat
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from files import names, tensor_bytes
from tiny_models import save_pair

from boomerang_cli.engine.checkpoint.files import SourceFile
from boomerang_cli.engine.checkpoint.tensors import Tensor
from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.output import moves
from boomerang_cli.engine.output import output_folder as output_folders
from boomerang_cli.engine.output.output_folder import output_folder
from boomerang_cli.engine.output.shards import Copy, lay_out
from boomerang_cli.engine.patch import patch


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return save_pair(tmp_path, "gpt_neox")


def patch_to(tmp_path: Path, **options: Any) -> Path:
    return patch(**{"student": tmp_path / "student", "output": tmp_path / "model", "layers": 1, **options}).path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_an_output_that_exists_is_refused_and_stays(pair: tuple[Path, Path], tmp_path: Path) -> None:
    patch_to(tmp_path)
    before = content(tmp_path / "model")
    with pytest.raises(OutputError, match="exists: give another --output, or --overwrite"):
        patch_to(tmp_path, layers=2)
    assert content(tmp_path / "model") == before


def test_overwrite_replaces_the_whole_folder(pair: tuple[Path, Path], tmp_path: Path) -> None:
    patch_to(tmp_path, max_shard_size="10KB")
    patch_to(tmp_path, layers=2, overwrite=True)
    assert [path.name for path in (tmp_path / "model").glob("*.safetensors")] == ["model.safetensors"]
    assert names(tmp_path) == ["model", "student", "teacher"]


def test_overwrite_works_without_an_atomic_exchange(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_folders, "exchange", lambda one, other: False)
    patch_to(tmp_path)
    patch_to(tmp_path, layers=3, overwrite=True)
    assert tensor_bytes(tmp_path / "model") == tensor_bytes(pair[0])
    assert names(tmp_path) == ["model", "student", "teacher"]


def test_what_is_replaced_goes_only_after_the_new_one_is_on_the_disk(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    exchange, rmtree = output_folders.exchange, shutil.rmtree
    monkeypatch.setattr(output_folders, "sync_tree", lambda path: done.append("its bytes"))
    monkeypatch.setattr(output_folders, "exchange", lambda *both: done.append("exchange") or exchange(*both))
    monkeypatch.setattr(output_folders, "sync_name", lambda path: done.append("its name"))
    monkeypatch.setattr(shutil, "rmtree", lambda *all, **more: done.append("the old one goes") or rmtree(*all, **more))
    patch_to(tmp_path)
    assert "its bytes" not in done  # a model that replaces none, and can be made again
    done.clear()
    patch_to(tmp_path, overwrite=True)
    assert done == ["its bytes", "exchange", "its name", "the old one goes"]


def test_a_verified_model_is_on_the_disk_when_that_is_said(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Path] = []
    for name in ("sync_tree", "sync_name"):
        monkeypatch.setattr(output_folders, name, done.append)
    patch_to(tmp_path, verify=True)
    assert [path.name.split("-")[0] for path in done] == [".model.partial", "model"]


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV])
def test_a_folder_that_cannot_be_renamed_stays_as_it_was(
    number: int, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(path: Path, target: Path) -> Path:
        if path.name == "model" or target.name == "model":
            raise OSError(number, os.strerror(number))
        return rename(path, target)

    patch_to(tmp_path)
    before, rename = content(tmp_path / "model"), Path.rename
    monkeypatch.setattr(output_folders, "exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", busy)
    with pytest.raises(OutputError, match=f"model cannot be written: {os.strerror(number)}"):
        patch_to(tmp_path, layers=2, overwrite=True)
    assert content(tmp_path / "model") == before
    assert names(tmp_path) == ["model", "student", "teacher"]


def test_a_new_folder_that_cannot_take_its_place_gives_it_back(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(path: Path, target: Path) -> Path:
        if target.name == "model" and "previous" not in path.name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    patch_to(tmp_path)
    before, rename = content(tmp_path / "model"), Path.rename
    monkeypatch.setattr(output_folders, "exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", once)
    with pytest.raises(OutputError, match="model cannot be written: Input/output error"):
        patch_to(tmp_path, layers=2, overwrite=True)
    assert content(tmp_path / "model") == before
    assert names(tmp_path) == ["model", "student", "teacher"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_mount_point_is_told_before_any_work(
    overwrite: bool, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(output_folders, "is_mount_point", lambda folder: folder.name == "disk")
    with pytest.raises(OutputError, match=r"disk is a mount point, .*: give a folder in it, --output .*disk/patched$"):
        patch_to(tmp_path, student=tmp_path / "nowhere", output=tmp_path / "disk", overwrite=overwrite)


@pytest.mark.parametrize("locked", [False, None])
def test_only_a_lock_of_its_own_lets_a_run_remove_what_is_left(
    locked: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without locks, or beside a run that holds one, what lies there may be at work."""
    (tmp_path / ".model.partial-other").mkdir()
    monkeypatch.setattr(output_folders, "try_lock", lambda descriptor: locked)
    output_folders._remove_abandoned(tmp_path / "model")
    assert names(tmp_path) == [".model.partial-other"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_is_not_overwritten(kind: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.write_text("mine") if kind == "file" else target.symlink_to(tmp_path / "teacher")
    with pytest.raises(OutputError, match="is no folder"):
        patch_to(tmp_path, overwrite=True)
    assert target.is_symlink() or target.read_text() == "mine"


def test_the_folder_one_stands_in_is_not_overwritten(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pair[1])
    with pytest.raises(OutputError, match="holds the current folder"):
        patch(layers=1, output=".", overwrite=True)


def test_folders_on_the_way_are_made(pair: tuple[Path, Path], tmp_path: Path) -> None:
    assert patch_to(tmp_path, output=tmp_path / "deep" / "er" / "model").is_dir()


def test_other_users_can_read_the_result_but_not_what_is_being_written(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        with output_folder(tmp_path / "model", "patched") as folder:
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o755
    finally:
        os.umask(old)


def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(moves, "_kernel_shares", lambda *_: True)
    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OutputError, match="model cannot be written: no space left"):
        patch_to(tmp_path)
    assert names(tmp_path) == ["student", "teacher"]


def test_too_little_space_is_refused_before_the_first_byte(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OutputError, match=r"model needs [\d,]+ bytes, and .* has 1,000 free: make room"):
        patch_to(tmp_path)


def test_a_folder_without_permission_is_said_in_one_line(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(*_: Any, **__: Any) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")  # root may write everywhere

    monkeypatch.setattr(tempfile, "mkdtemp", forbid)
    with pytest.raises(OutputError, match="model cannot be written: Permission denied"):
        patch_to(tmp_path)


def test_a_file_where_a_folder_should_be_is_said_in_one_line(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written: (Not a directory|File exists)"):
        patch_to(tmp_path, output=tmp_path / "file" / "model")


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
def test_bytes_are_the_same_where_the_kernel_cannot_copy(
    number: int, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tensor_bytes(patch_to(tmp_path))

    def unable(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(moves, "_kernel_shares", lambda *_: True)
    monkeypatch.setattr(os, "copy_file_range", unable)
    assert tensor_bytes(patch_to(tmp_path, output=tmp_path / "slow")) == expected


def test_a_kernel_that_copies_a_little_at_a_time_is_enough(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_file_range, turns = os.copy_file_range, iter(range(10**9))

    def short(source: int, output: int, size: int, position: int) -> int:
        return copy_file_range(source, output, min(size, 1 + next(turns) % 1000), position)

    monkeypatch.setattr(moves, "_kernel_shares", lambda *_: True)
    monkeypatch.setattr(os, "copy_file_range", short)
    patch_to(tmp_path, layers=3)
    assert tensor_bytes(tmp_path / "model") == tensor_bytes(pair[0])


def test_a_source_that_changes_while_it_is_read_is_noticed(pair: tuple[Path, Path], tmp_path: Path) -> None:
    def touch(done: int, total: int) -> None:
        os.utime(pair[0] / "model.safetensors", ns=(1, 1))

    with pytest.raises(OutputError, match=r"teacher/model\.safetensors changed while it was read"):
        patch_to(tmp_path, on_progress=touch)
    assert names(tmp_path) == ["student", "teacher"]


def test_a_source_that_becomes_shorter_is_noticed(pair: tuple[Path, Path], tmp_path: Path) -> None:
    def cut(done: int, total: int) -> None:
        os.truncate(pair[0] / "model.safetensors", 100)

    with pytest.raises(OutputError, match=r"model\.safetensors became shorter while it was read"):
        patch_to(tmp_path, on_progress=cut)


def test_progress_counts_to_the_last_byte(pair: tuple[Path, Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = patch(layers=1, student=pair[1], output=tmp_path / "m", on_progress=lambda *at: seen.append(at))
    assert (seen[0], seen[-1]) == ((0, result.bytes), (result.bytes, result.bytes))


def test_two_writers_of_one_output_leave_one_whole_model(pair: tuple[Path, Path], tmp_path: Path) -> None:
    def other(done: int, total: int) -> None:
        if not (tmp_path / "model").exists():
            patch_to(tmp_path, layers=3)

    with pytest.raises(OutputError, match="another command wrote it meanwhile"):
        patch_to(tmp_path, on_progress=other)
    assert tensor_bytes(tmp_path / "model") == tensor_bytes(pair[0])
    assert names(tmp_path) == ["model", "student", "teacher"]


def test_what_a_killed_run_left_is_removed_and_what_a_running_one_writes_is_not(tmp_path: Path) -> None:
    (tmp_path / ".model.partial-dead").mkdir()
    with output_folder(tmp_path / "model", "patched") as alive:
        with output_folder(tmp_path / "model", "patched") as second:
            assert {*names(tmp_path)} == {alive.name, second.name}
        shutil.rmtree(tmp_path / "model")
        (alive / "x").write_text("x")
    assert names(tmp_path / "model") == ["x"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_at_any_moment_leaves_the_old_state_or_the_new(overwrite: bool, tmp_path: Path) -> None:
    save_pair(tmp_path, "gpt_neox", hidden_size=256, intermediate_size=1024)
    seconds, chance = 1.0, random.Random(0)
    for _ in range(3):  # the fastest: a stall would put all kills after the end
        started = time.monotonic()
        new = content(patch_to(tmp_path, layers=2))
        seconds = min(seconds, time.monotonic() - started)
        shutil.rmtree(tmp_path / "model")
    old = content(patch_to(tmp_path, layers=1)) if overwrite else {}
    found = []
    for _ in range(50):
        if (child := os.fork()) == 0:
            patch_to(tmp_path, layers=2, overwrite=overwrite)
            os._exit(0)
        time.sleep(chance.uniform(0, 1.2 * seconds))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found.append({name: data for name, data in content(tmp_path / "model").items() if name != "boomerang.json"})
        if not overwrite:
            shutil.rmtree(tmp_path / "model", ignore_errors=True)
        elif found[-1]["config.json"] == new["config.json"]:
            patch_to(tmp_path, layers=1, overwrite=True)
    for state in (old, new):
        state.pop("boomerang.json", None)
    assert all(state in (old, new) for state in found)
    assert old in found
    patch_to(tmp_path, layers=3, overwrite=True)
    assert names(tmp_path) == ["model", "student", "teacher"]


def test_wide_numbers_come_first_so_that_every_tensor_is_aligned() -> None:
    file = SourceFile(Path("model.safetensors"), 100, 0)
    narrow, wide = Tensor("a", "BF16", (3,), file, 0, 6), Tensor("b", "F32", (2,), file, 6, 14)
    (shard,) = lay_out([Copy(each.name, "teacher", each, each.dtype) for each in (narrow, wide)], 1000)
    assert [copy.name for copy in shard.copies] == ["b", "a"]
