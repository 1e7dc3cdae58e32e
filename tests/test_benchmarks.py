"""The scripts of ``benchmarks/``: what they import is there, and each says what it measures."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
PLACES = (ROOT, ROOT / "tests", ROOT / "benchmarks")


def file_of(module: str) -> Path | None:
    """Return a module's file if it is of this repository."""
    found = (place.joinpath(*module.split(".")) for place in PLACES)
    candidates = (file for path in found for file in (path.with_suffix(".py"), path / "__init__.py"))
    return next((file for file in candidates if file.is_file()), None)


def names_in(file: Path) -> set[str]:
    """Return what can be imported from a file: names that its top level binds, and the files beside it of a package."""
    bound: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound |= {each.asname or each.name for each in node.names}
    return bound | ({path.stem for path in file.parent.iterdir()} if file.name == "__init__.py" else set())


@SCRIPTS
def test_every_name_that_a_benchmark_imports_exists(script: Path) -> None:
    missing = []
    for node in ast.walk(ast.parse(script.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and (file := file_of(node.module)):
            missing += [f"{node.module}.{each.name}" for each in node.names if each.name not in names_in(file)]
    assert missing == []


@pytest.mark.slow
@SCRIPTS
def test_every_benchmark_answers_help(script: Path) -> None:
    asked = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert (asked.returncode, asked.stdout.partition(":")[0]) == (0, "usage"), asked.stderr
