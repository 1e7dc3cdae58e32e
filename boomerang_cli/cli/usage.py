"""Wrong usage in one line: what was typed, what is wrong with it, and the way out."""

from __future__ import annotations

import re
from typing import Any

import typer

from boomerang_cli.engine.errors import did_you_mean

_EXTRA = " is more than the command takes"

_WORDS = {
    r"('.*') is not a valid int(?:eger)?": r"\1 is no whole number",
    r"('.*') is not a valid (?:float|number)": r"\1 is no number",
    r"Option '(.*)' requires an argument": r"\1 needs a value",
    r"Option '(.*)' does not take a value": r"\1 takes no value",
    r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)": rf"\1{_EXTRA}",
}
"""What Typer says, without its full stop, and what is said here."""

_MEANT = {
    "train": "distill",
    "prune": "init-student",
    "merge": "patch",
    "eval": "sweep",
    "evaluate": "sweep",
    "upload": "push",
    "help": "--help",
}
"""What other programs call our commands."""


def usage_line(error: Any) -> str:
    """Return what is wrong by an error of Typer's; where that asks nothing, the command's help is named, too."""
    what = _what(error)
    path = error.ctx.command_path if error.ctx else "boomerang"
    return what if what.endswith("?") or error.ctx is None else f"{what}; see `{path} --help`"


def unknown_command(word: str, commands: list[str]) -> typer.BadParameter:
    """Return the error of a command that is none."""
    near = f": did you mean {_MEANT[word]}?" if word in _MEANT else did_you_mean(word, commands)
    return typer.BadParameter(
        f"no command {word}{near}" if near else f"no command {word}: give one of {', '.join(commands)}"
    )


def _what(error: Any) -> str:
    if hasattr(error, "possibilities"):  # no such option
        known = [flag for each in error.ctx.command.get_params(error.ctx) for flag in each.opts]
        return f"no option {error.option_name}{did_you_mean(error.option_name, known)}"
    parameter: Any = getattr(error, "param", None)
    if hasattr(error, "param_type"):
        return f"{_name(parameter)} is missing: {parameter.help}".rstrip(".")
    choices = getattr(getattr(parameter, "type", None), "choices", None)
    if choices and (given := re.match(r"'(.*)' is not one of", error.message)):
        near = did_you_mean(given[1], choices)
        return f"{_name(parameter)} {given[1]} is none of {', '.join(choices)}{near}"
    message: str = error.message.rstrip(".")
    for theirs, ours in _WORDS.items():
        message = re.sub(f"^{theirs}$", ours, message)
    if message.endswith(_EXTRA):
        return message + _as_student(message.removesuffix(_EXTRA), error.ctx)
    name = getattr(error, "param_hint", None) or (parameter and _name(parameter))
    return f"{name}: {message}" if name else message


def _as_student(words: str, context: Any) -> str:
    """Ask whether a word was meant as the student, where a command takes that by an option alone."""
    flags = {flag for each in context.command.get_params(context) for flag in each.opts}
    return f": did you mean --student {words}?" if "--student" in flags and " " not in words else ""


def _name(parameter: Any) -> str:
    """Return an option's long flag, or an argument as help calls it."""
    is_option = parameter.param_type_name == "option"
    return str(max(parameter.opts, key=len) if is_option else parameter.human_readable_name)
