"""Kills, full disks, sources that change, two commands at once: a few of each. ``benchmarks/faults.py`` plays more."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from files import names, tensor_bytes
from tiny_models import save_pair

from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.evaluation.journal import Journal
from boomerang_cli.engine.output import output_folder as output_folders
from boomerang_cli.engine.output.output_folder import check_output, check_writable, output_folder
from boomerang_cli.engine.patch import patch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from faults import FAULTS, project


@pytest.mark.parametrize("fault", FAULTS)
def test_the_old_state_or_the_new_one_is_found_and_the_next_run_works(fault: str) -> None:
    with project():
        assert FAULTS[fault](1, Random(1))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return save_pair(tmp_path, "gpt_neox")


def patch_to(tmp_path: Path, **options: Any) -> Path | None:
    return patch(**{"student": tmp_path / "student", "output": tmp_path / "model", "layers": 1, **options}).path


def test_a_kill_between_two_renames_loses_nothing(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where folders cannot be exchanged, the old model stands aside for a moment; it comes back on the next run."""
    patch_to(tmp_path)
    old = tensor_bytes(tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / ".model.partial-previous")
    with pytest.raises(OutputError, match="model exists"):
        patch_to(tmp_path, layers=2)
    assert tensor_bytes(tmp_path / "model") == old
    assert names(tmp_path) == ["model", "student", "teacher"]


def test_a_folder_that_is_taken_for_abandoned_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run may look between the making of a temporary folder and its locking."""
    mkdtemp, made = output_folders.tempfile.mkdtemp, []

    def taken_once(**options: Any) -> str:
        made.append(mkdtemp(**options))
        if len(made) == 1:
            os.rmdir(made[0])  # noqa: PTH106
        return made[-1]

    monkeypatch.setattr(output_folders.tempfile, "mkdtemp", taken_once)
    with output_folder(tmp_path / "model", "patched") as folder:
        (folder / "x").write_text("x")
    assert names(tmp_path / "model") == ["x"]


@pytest.mark.parametrize("target", ["student", "teacher", "."])
def test_a_model_does_not_take_the_place_of_its_sources(target: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"which the output is made from|no record that boomerang wrote it"):
        patch_to(tmp_path, output=tmp_path / target, overwrite=True)
    assert names(tmp_path) == ["student", "teacher"]


def test_a_folder_that_is_no_model_is_not_overwritten(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters.txt").write_text("dear")
    with pytest.raises(OutputError, match=r"home holds letters\.txt, and no record that boomerang wrote it"):
        patch_to(tmp_path, output=tmp_path / "home", overwrite=True)
    assert names(tmp_path / "home") == ["letters.txt"]


def test_a_sweep_at_work_is_not_swept_away_by_another(tmp_path: Path) -> None:
    with Journal(tmp_path / "sweep", {"data": "a"}) as journal:
        journal.add("row", {"kl": 1.0})
        with pytest.raises(OutputError, match="another sweep is writing"):
            Journal(tmp_path / "sweep", {"data": "b"}, overwrite=True)
    with Journal(tmp_path / "sweep", {"data": "a"}) as journal:
        assert journal.get("row") == {"kl": 1.0}


@pytest.mark.parametrize("line", [b"{", b"[1]", b"0", b'{"values": []}', b"[" * 10_000])
def test_a_damaged_journal_is_told(line: bytes, tmp_path: Path) -> None:
    Journal(tmp_path / "sweep", {}).__exit__(None, None, None)
    (tmp_path / "sweep" / "journal.jsonl").write_bytes(line + b"\n")
    with pytest.raises(OutputError, match=r"journal\.jsonl is damaged: start anew with --overwrite"):
        Journal(tmp_path / "sweep", {})
    Journal(tmp_path / "sweep", {}, overwrite=True).__exit__(None, None, None)


@pytest.mark.parametrize(("target", "message"), [("new/..", "names no folder"), ("x" * 300, "File name too long")])
def test_a_name_that_no_folder_can_have_is_refused(target: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=message):
        check_output(tmp_path / target, "patched", overwrite=False)
    assert names(tmp_path) == []


def test_a_place_that_may_not_be_written_is_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(OutputError, match=r"student cannot be written: .* is read-only, or not yours"):
        check_writable(tmp_path / "deep" / "student")


@pytest.mark.parametrize("gone", ["teacher/model.safetensors", "teacher/tokenizer.json"])
def test_a_source_that_is_gone_is_named(gone: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    def remove(done: int, total: int) -> None:
        (tmp_path / gone).unlink(missing_ok=True)

    with pytest.raises(OutputError, match=rf"{gone} (cannot be read|changed while)"):
        patch_to(tmp_path, on_progress=remove)
    assert names(tmp_path) == ["student", "teacher"]


def test_an_output_whose_folder_is_removed_meanwhile_is_told(pair: tuple[Path, Path], tmp_path: Path) -> None:
    def remove(done: int, total: int) -> None:
        shutil.rmtree(tmp_path / "deep", ignore_errors=True)

    with pytest.raises(OutputError, match="model cannot be written: No such file"):
        patch_to(tmp_path, output=tmp_path / "deep" / "model", on_progress=remove)
