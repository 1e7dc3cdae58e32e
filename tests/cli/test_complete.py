"""What a shell offers for values: what is here, from files of this disk alone, and nothing where that fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from boomerang_cli.cli.app import app
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.patch import patch


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A student of 7 layers in the current folder, and an empty cache."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    init_student("builtin:demo", output="student")
    return tmp_path / "project"


def offered(*typed: str) -> list[str]:
    """Return what bash would offer for the last word."""
    words = {"COMP_WORDS": " ".join(["boomerang", *typed]), "COMP_CWORD": str(len(typed))}
    asked = CliRunner().invoke(app, [], env={**words, "_BOOMERANG_COMPLETE": "complete_bash"}, prog_name="boomerang")
    assert asked.stderr == ""
    return asked.stdout.split()


def test_layers_and_depths_are_those_of_the_pair_at_hand(project: Path) -> None:
    depths = offered("patch", "--depth", "")
    assert offered("patch", "--layers", "") == ["0", "1", "2", "3", "4", "5"]
    assert depths == [str(patch(layers=k, dry_run=True).depth) for k in range(6)]


@pytest.mark.parametrize("student", ["nowhere", "Harvard-DCML/not-in-the-cache"])
def test_nothing_is_offered_for_a_student_that_is_not_here(project: Path, student: str) -> None:
    assert offered("patch", "--student", student, "--layers", "") == []


def test_a_broken_record_offers_nothing(project: Path) -> None:
    Path("student/student_config.json").write_text("[")
    assert offered("patch", "--layers", "") == []


def test_a_student_of_the_cache_is_read_where_it_lies(project: Path, tmp_path: Path) -> None:
    snapshots = tmp_path / "home" / "hub" / "models--owner--small" / "snapshots"
    snapshots.mkdir(parents=True)
    (snapshots / "0123").symlink_to(project / "student")
    assert offered("patch", "--student", "owner/small", "--layers", "") == ["0", "1", "2", "3", "4", "5"]
    assert "owner/small" in offered("patch", "--student", "")


def test_models_are_folders_here_and_one_below(project: Path) -> None:
    Path("other/inner").mkdir(parents=True)
    Path("other/inner/config.json").write_text("{}")
    Path("corpus").mkdir()
    assert offered("patch", "--student", "") == ["other/inner", "student"]
    assert offered("distill", "oth") == ["other/inner"]
    assert offered("info", "../project/st") == ["../project/student"]


def test_orders_are_those_that_a_sweep_left(project: Path) -> None:
    assert offered("patch", "--order", "") == ["auto", "first", "last"]
    Path("sweep").mkdir()
    Path("sweep/results.json").write_text(json.dumps({"rows": [{"order": "greedy"}, {"order": "last"}]}))
    Path("sweep/order.json").write_text("[]")
    assert offered("patch", "--order", "") == ["auto", "first", "last", "greedy", "sweep/order.json"]


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        (["sweep", "--order", "first,"], {"first,last", "first,greedy", "first,exact"}),
        (["sweep", "--device", ""], {"auto", "cpu"}),
        (["sweep", "--dtype", "b"], {"bfloat16"}),
        (["distill", "--recipe", ""], {"paper", "adapt", "between"}),
        (["distill", "--optimizer", ""], {"adamw", "adamw-8bit"}),
    ],
)
def test_values_with_names_are_offered(project: Path, typed: list[str], values: set[str]) -> None:
    assert values <= set(offered(*typed))
