"""What help says: panels, examples that can be typed, sections that README has, within the terminal's width."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from running import run

from boomerang_cli.cli.app import COMMANDS

README = Path(__file__).parents[2] / "README.md"
NAMES = [name.replace("_", "-") for name in COMMANDS]


def help_of(*command: str, columns: int = 100, monkeypatch: pytest.MonkeyPatch | None = None) -> str:
    if monkeypatch:
        monkeypatch.setenv("COLUMNS", str(columns))
    return str(run(*command, "-h").stdout)


def examples(shown: str) -> list[list[str]]:
    lines = shown.partition("\nExamples:\n")[2].partition("\n\n")[0].splitlines()
    return [shlex.split(command) for line in lines for command in line.split(";")]


@pytest.mark.parametrize("command", NAMES)
def test_help_ends_with_three_examples_of_the_command_that_it_takes(command: str) -> None:
    shown = help_of(command)
    found = examples(shown)
    assert [words[:2] for words in found] == [["boomerang", command]] * 3
    flags = {word for words in found for word in words if word.startswith("-")}
    assert all(re.search(rf"(?<![\w-]){flag}(?![\w-])", shown.partition("\nExamples:")[0]) for flag in flags)


@pytest.mark.parametrize("command", [[], *([name] for name in NAMES)])
def test_help_names_a_section_that_readme_has(command: list[str]) -> None:
    anchors = re.findall(r"\nREADME: https://[^#\s]+#(\S+)\n", help_of(*command))
    headings = re.findall(r"^## (.*)$", README.read_text(), re.MULTILINE)
    assert len(anchors) == 1
    assert anchors[0] in {heading.lower().replace(" ", "-").replace(",", "") for heading in headings}


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", [[], *([name] for name in NAMES)])
def test_help_fits_its_terminal_in_plain_text(
    command: list[str], columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = help_of(*command, columns=columns, monkeypatch=monkeypatch)
    assert max(map(len, shown.splitlines())) <= columns
    assert not re.search(r"[^\n -~]", shown)


def panels(shown: str) -> dict[str, set[str]]:
    """The options in each panel of a help."""
    found = re.split(r"^([A-Z][\w -]*):$", shown, flags=re.MULTILINE)[1:]
    return {
        name: set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE))
        for name, text in zip(found[::2], found[1::2], strict=True)
    }


def test_distill_has_its_options_in_panels() -> None:
    shown = panels(help_of("distill"))
    assert list(shown)[:-2] == [
        *("Arguments", "Models", "Data", "Conversations", "Recipe", "Losses", "Hardware", "Plan"),
    ]
    assert {"--kl-weight", "--no-kl", "--temperature"} < shown["Losses"]
    assert {"--gpus", "--offload"} < shown["Hardware"]


@pytest.mark.parametrize("command", NAMES)
def test_output_is_the_last_panel_and_holds_what_all_commands_have(command: str) -> None:
    shown = panels(help_of(command))
    assert list(shown)[-2:] == ["Output", "Examples"]
    assert {"--json", "--quiet", "--help"} <= shown["Output"]


@pytest.mark.parametrize("word", ["Block i is", "k is how many blocks", "The order says"])
def test_help_of_patch_defines_the_words_that_readme_leaves_to_it(word: str) -> None:
    assert word in " ".join(help_of("patch").split())
