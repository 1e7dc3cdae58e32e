"""Wrong usage: one line on stderr that asks what was meant, and 2; what only the models forbid exits with 1."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from running import run

from boomerang_cli.cli.app import COMMANDS, _import_command
from boomerang_cli.engine.init_student import init_student

ONE_LINE = re.compile(r"error: [^\n]*[^\n.]\n")


def wrong(*arguments: str) -> str:
    """Return the one line of arguments that are wrong by themselves."""
    shown = run(*arguments, code=2)
    assert shown.stdout == ""
    assert ONE_LINE.fullmatch(shown.stderr), shown.stderr
    assert not re.search(r"pydantic|Invalid value|Error:|Usage:", shown.stderr)
    return str(shown.stderr)


@pytest.mark.parametrize("typed", [["init-student", ""], ["info", ""], ["push", "", "me/x"], ["push", "model", ""]])
def test_an_argument_that_is_empty_is_no_folder(typed: list[str]) -> None:
    assert wrong(*typed).endswith(": it is empty: is a variable not set?\n")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["init"], "init-student"),
        (["ptch"], "patch"),
        (["train"], "distill"),
        (["help"], "--help"),
        (["patch", "--layer", "2"], "--layers"),
        (["patch", "mine", "--layers", "2"], "--student mine"),
        (["patch", "--dtype", "BF16"], "bfloat16"),
        (["distill", "--learn-rate", "1"], "--learning-rate"),
        (["patch", "--dtype", "bfloat61"], "bfloat16"),
        (["distill", "--report-to", "wand"], "wandb"),
    ],
)
def test_a_word_that_is_mistyped_asks_what_was_meant(typed: list[str], meant: str) -> None:
    assert wrong(*typed).endswith(f": did you mean {meant}?\n")


def test_a_command_that_is_like_none_is_told_all_of_them() -> None:
    assert all(name.replace("_", "-") in wrong("xyz") for name in COMMANDS)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["patch", "--layers", "two"], "--layers: 'two' is no whole number; see `boomerang patch --help`"),
        (["patch", "--max-kl", "x"], "--max-kl: 'x' is no number"),
        (["distill", "--steps", "1.5"], "--steps: '1.5' is no whole number"),
        (["sweep", "--batch-size", "x"], "--batch-size: 'x' is neither auto nor a number"),
        (["patch", "--size"], "--size needs a value"),
        (["patch", "--quiet=3"], "--quiet takes no value"),
        (["push", "folder"], "REPO_ID is missing: owner/name on the Hub"),
        (["families", "a", "b"], "b is more than the command takes"),
        (["patch", "--foo"], "no option --foo; see `boomerang patch --help`"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(typed: list[str], says: str) -> None:
    assert says in wrong(*typed)


@pytest.mark.parametrize(
    "typed",
    [
        ["patch"],
        ["patch", "--layers", "1", "--depth", "3"],
        ["patch", "--context", "0", "--memory", "8GB"],
        ["patch", "--batch", "2", "--layers", "1"],
        ["patch", "--size", "4XB"],
        ["patch", "--min-top1", "2"],
        ["patch", "--layers", "1", "--push", "me/model", "--output", "here"],
        ["patch", "--layers", "1", "--private"],
        ["distill", "--recipe", "papr"],
        ["distill", "--steps", "0"],
        ["distill", "--warmup-ratio", "5"],
        ["distill", "--gpus", "0"],
        ["distill", "--dry-run", "--gpus", "0"],
        ["distill", "--micro-batch-size", "0"],
        ["distill", "--eval-every", "0"],
        ["distill", "--gpu-memory", "80GB"],
        ["distill", "--dry-run", "--measure", "--tokens-per-second", "1"],
        ["distill", "--keep", "1,2"],
        ["push", "here", "model"],
        ["sweep", "--beam", "0"],
        ["sweep", "--stride", "9", "--sequence-length", "8"],
        ["sweep", "--tasks", "a", "--limit", "0"],
        ["sweep", "--limit", "3"],
        ["sweep", "--gen-kwargs", "temperature=1"],
        ["init-student", "model", "--base", "other"],
    ],
)
def test_flags_that_are_wrong_by_themselves_are_wrong_usage(
    typed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong(*typed)
    assert not list(tmp_path.iterdir())


MEANINGLESS = {"int": ("-1",), "float": ("-inf", "nan", "inf")}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_takes_an_empty_value_or_a_number_that_is_none(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {"init_student": ["builtin:demo"], "push": ["folder", "me/model"], "info": ["folder"]}.get(command, [])
    options = [each for each in _import_command(command).params if each.param_type_name == "option"]
    for option in (each for each in options if not each.is_flag):
        for value in ("", *MEANINGLESS.get(option.type.name, ())):
            wrong(command.replace("_", "-"), *arguments, f"{max(option.opts, key=len)}={value}")
    assert not list(tmp_path.iterdir())


# With a pair


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return init_student("builtin:demo", output=tmp_path_factory.mktemp("pair") / "student").path


def test_an_order_that_is_mistyped_asks_what_was_meant(student: Path) -> None:
    shown = wrong("patch", "--student", str(student), "--layers", "1", "--order", "frist")
    assert shown.endswith(": did you mean first?\n")


def test_layers_that_are_a_depth_ask_for_it_and_a_depth_that_is_k_likewise(student: Path) -> None:
    named = ("patch", "--student", str(student), "--dry-run")
    assert run(*named, "--layers", "11", code=1).stderr.endswith("5 to patch: did you mean --depth 11?\n")
    assert run(*named, "--depth", "3", code=1).stderr.endswith("layers: did you mean --layers 3?\n")
    assert "give 0 to 5" in run(*named, "--layers", "99", code=1).stderr
