"""What a command loads before it works: no library that it does not need, and not many modules in all."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from boomerang_cli.cli.app import COMMANDS
from boomerang_cli.engine.publishing import plain_yaml
from boomerang_cli.engine.publishing.versions import versions

HEAVY = {
    "accelerate", "datasets", "huggingface_hub", "matplotlib", "numpy", "rich", "safetensors", "torch", "transformers",
    "yaml", "concurrent.futures", "email", "importlib.metadata", "logging",
}  # fmt: skip
ONE_OPTION = "import typer\napp = typer.Typer(rich_markup_mode=None)\n@app.command()\ndef main(n: int = 0): pass\napp()"


def loaded(*arguments: str) -> set[str]:
    """The modules that a Python process imports."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


@pytest.fixture(scope="module")
def typers_own() -> set[str]:
    """What Python and Typer load for any program, this one or another."""
    return loaded("-c", ONE_OPTION)


@pytest.fixture(scope="module")
def loaded_by_patch(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("project")
    student, output = str(folder / "student-init"), str(folder / "patched")
    boomerang = [sys.executable, "-m", "boomerang_cli"]
    subprocess.run([*boomerang, "init-student", "builtin:demo", "-o", student, "-q"], check=True, capture_output=True)
    return loaded("-m", "boomerang_cli", "patch", "--layers", "2", "--student", student, "-o", output, "-q")


def test_help_loads_little_more_than_typer(typers_own: set[str]) -> None:
    more = loaded("-m", "boomerang_cli", "--help") - typers_own
    assert "boomerang_cli.engine.errors" in more
    assert len(more) <= 20, sorted(more)


def test_patch_loads_no_library(loaded_by_patch: set[str], typers_own: set[str]) -> None:
    assert not (loaded_by_patch - typers_own) & HEAVY


def test_patch_loads_few_modules(loaded_by_patch: set[str], typers_own: set[str]) -> None:
    more = loaded_by_patch - typers_own
    assert "boomerang_cli.engine.output.writer" in more
    assert len(more) <= 102, sorted(more)


@pytest.mark.parametrize("command", ["init_student", "distill", "sweep", "push", "demo"])
def test_patch_loads_no_other_command(command: str, loaded_by_patch: set[str]) -> None:
    assert f"boomerang_cli.engine.{command}" not in loaded_by_patch


def test_list_of_commands_tells_the_first_lines_of_their_help() -> None:
    first = {name: getattr(import_module(f"boomerang_cli.cli.{name}"), name).__doc__ for name in COMMANDS}
    assert {name: text.split("\n")[0] for name, text in first.items()} == COMMANDS


def test_tested_typer_does_without_pydantic() -> None:
    assert "pydantic" not in (Path(__file__).parents[2] / "constraints.txt").read_text()


# What is read and written without the library for it


words = st.text("aeNnoYy.-/_0 :#'~é", max_size=6) | st.sampled_from(["apache-2.0", "Off", "null", "a/b@c", "x" * 200])


@given(st.dictionaries(words, words | st.lists(words, max_size=3), max_size=3))
def test_plain_yaml_is_written_as_pyyaml_writes_it(content: dict[str, str | list[str]]) -> None:
    assert plain_yaml.dump(content) == yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


@given(words)
def test_plain_yaml_is_read_as_pyyaml_reads_it(word: str) -> None:
    lines = ["license: apache-2.0", f"license_name: {word}"]
    try:
        expected = yaml.safe_load("\n".join(lines))
    except (yaml.YAMLError, ValueError):
        expected = None
    assert plain_yaml.load(lines) == expected


def test_versions_are_those_that_are_installed() -> None:
    found = versions()
    libraries = found.keys() - {"boomerang", "python"}
    assert libraries == {"torch", "transformers", "safetensors", "huggingface_hub"}
    assert {name: found[name] for name in libraries} == {name: version(name) for name in libraries}
