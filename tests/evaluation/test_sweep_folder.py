"""A sweep's folder: what it may hold, and what `--overwrite` takes away."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from files import names, tensor_bytes
from sweeping import line
from tiny_models import KEPT

from boomerang_cli.engine.checkpoint.checkpoint import read_checkpoint
from boomerang_cli.engine.checkpoint.fingerprint import fingerprint
from boomerang_cli.engine.errors import OutputError, ScoringError
from boomerang_cli.engine.evaluation.journal import Journal
from boomerang_cli.engine.patch import patch


def test_scores_of_another_text_are_not_mixed_in(run: Any, folder: Path, tmp_path: Path) -> None:
    run()
    (tmp_path / "other.txt").write_text((folder / "text.txt").read_text() + " w3 w4")
    message = line(OutputError, run, data=[str(tmp_path / "other.txt")])
    assert "holds another sweep, of another text: give another --output, or --overwrite" in message


def test_scores_of_another_student_are_not_mixed_in(run: Any, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "student", tmp_path / "student")
    os.utime(tmp_path / "student" / "model.safetensors", ns=(1, 1))
    run()
    assert "of another student" in line(OutputError, run, student=tmp_path / "student")


def test_scores_of_another_version_are_not_mixed_in(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr("boomerang_cli.engine.evaluation.session.versions", lambda: {"boomerang": "0.0.1"})
    assert "of another boomerang version" in line(OutputError, run)


def test_overwrite_removes_another_sweep(run: Any, scored: list[str]) -> None:
    run()
    scored.clear()
    run(overwrite=True, layers=[1])
    assert scored == ["0"]


def test_a_folder_of_something_else_is_refused_even_with_overwrite(run: Any, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "thesis.tex").touch()
    assert "holds thesis.tex, and no record that boomerang wrote it" in line(OutputError, run, overwrite=True)
    assert "exists and holds no sweep: give another --output" in line(OutputError, run)


def test_a_model_is_not_taken_for_a_sweep(run: Any, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "teacher", tmp_path / "sweep")
    assert "exists and holds no sweep: give another --output" in line(OutputError, run)
    assert "no record that boomerang wrote it" in line(OutputError, run, overwrite=True)


def test_overwrite_removes_what_a_sweep_wrote_and_nothing_else(run: Any, tmp_path: Path) -> None:
    path = run(write=True, order=["first,last"]).path
    assert {"order-first.json", "5L-first", "curve.png"} <= {*names(path)}
    for mine in (path / "notes.md", path / "5L-first" / "notes.md", path / "order-mine.json"):
        mine.touch()
        assert f"holds {mine.relative_to(path)}, which boomerang did not write" in line(
            OutputError, run, overwrite=True
        )
        run(order=["first,last"])  # without it, the sweep goes on beside them
        mine.unlink()
    run(overwrite=True, layers=[1])
    assert names(path) == ["curve.png", "curve.svg", "journal.jsonl", "order.json", "results.csv", "results.json"]


def test_what_another_sweep_found_stays_until_this_one_can_begin(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_little(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    path = run().path
    before = {name: (path / name).read_bytes() for name in names(path)}
    monkeypatch.setattr("boomerang_cli.engine.evaluation.session.load_pair", too_little)
    monkeypatch.setattr("boomerang_cli.engine.evaluation.session.is_out_of_memory", lambda error: True)
    assert "too little memory" in line(ScoringError, run, overwrite=True)
    assert {name: (path / name).read_bytes() for name in names(path)} == before


def test_a_model_in_the_way_is_told_before_anything_is_scored(run: Any, scored: list[str]) -> None:
    path = run(write=True, order=["first"], layers=[1]).path
    (path / "6L" / "mine").touch()
    scored.clear()
    assert "6L holds mine, which boomerang did not" in line(OutputError, run, write=True, order=["last"], layers=[1])
    assert scored == []


def test_a_value_that_took_long_is_on_the_disk_once_it_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    with Journal(tmp_path / "sweep", {}) as journal:
        monkeypatch.setattr(os, "fsync", synced.append)
        journal.add("quick", {"kl": 1.0})
        assert synced == []
        monkeypatch.setattr("boomerang_cli.engine.evaluation.journal._SECONDS_BETWEEN_SYNCS", 0.0)
        journal.add("slow", {"kl": 1.0})
        assert len(synced) == 1
    assert len(synced) == 2


def test_a_sweep_does_not_remove_the_student_that_it_holds(run: Any, tmp_path: Path) -> None:
    path = run(write=True).path
    settings = {"student": path / "5L", "keep": KEPT, "teacher": path / "8L", "output": path}
    assert "which the output is made from: give another --output" in line(OutputError, run, overwrite=True, **settings)


def test_two_sweeps_do_not_write_to_one_folder(run: Any, tmp_path: Path) -> None:
    with Journal(tmp_path / "sweep", {}):
        assert "another sweep is writing to" in line(OutputError, run)


def test_a_file_that_was_written_again_has_another_fingerprint(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "student", tmp_path / "student")
    before = fingerprint(read_checkpoint(tmp_path / "student"))
    os.utime(tmp_path / "student" / "model.safetensors", ns=(1, 1))
    assert fingerprint(read_checkpoint(tmp_path / "student")) != before


def test_written_models_are_students_that_go_on_in_the_sweeps_order(run: Any, tmp_path: Path) -> None:
    swept = run(write=True, order=["greedy"]).path
    further = patch(layers=1, student=swept / "6L", output=tmp_path / "further").path
    assert tensor_bytes(further) == tensor_bytes(swept / "7L")
