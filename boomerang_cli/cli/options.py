"""Options that several commands share: one wording, one type."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from boomerang_cli.cli import complete, panels
from boomerang_cli.engine.errors import SelectionError


class Numbers(tuple[int, ...]):
    """Whole numbers as ``numbers`` parses them; a plain list would make Typer take the option several times."""


def numbers(text: str) -> Numbers:
    """Parse ``1,2,5-8`` (for an option's ``parser``)."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(first + last) > 9:
            raise typer.BadParameter(f"{text!r} is no list of numbers such as 0,2,4 or 1,2,5-8")
        span = range(int(first), int(last or first) + 1)
        if not span:
            raise typer.BadParameter(f"{text!r}: {part.strip()} runs backwards, give {last}-{first}")
        if len(found) + len(span) > 100_000:
            raise typer.BadParameter(f"{text!r} lists too many numbers")
        found += span
    return Numbers(found)


def kept(text: str) -> Numbers:
    """Parse the teacher layers that a student keeps (for an option's ``parser``)."""
    from boomerang_cli.engine.pair.layers import check_kept

    layers = numbers(text)
    try:
        check_kept(layers)
    except SelectionError as error:
        raise typer.BadParameter(str(error)) from None
    return layers


def home(path: str | Path) -> Path:
    """Put somebody's home in the place of ``~`` (for an option's ``parser``): a shell does not in ``--output=~/x``."""
    try:
        if str(path):
            return Path(path).expanduser()
        raise typer.BadParameter("it is empty: is a variable not set?")
    except RuntimeError:
        raise typer.BadParameter(f"{str(path)!r}: there is no such home; ./~… is a folder of that name") from None


def text(name: str) -> str:
    """As :func:`home`, for what may also be a name on the Hub."""
    return name if home(name) == Path(name) else str(home(name))


DTypeName = Literal["auto", "float32", "bfloat16", "float16"]

# Models

_models = partial(typer.Option, rich_help_panel=panels.MODELS)

Student = Annotated[
    str | None,
    _models(
        parser=text,
        help="Folder or owner/name[@revision] of the student. Without it: BOOMERANG_STUDENT, this folder, ./student.",
        metavar="MODEL",
        autocompletion=complete.models,
    ),
]
Teacher = Annotated[
    str | None,
    _models(
        parser=text,
        help="Folder or owner/name[@revision] of the teacher. Without it: BOOMERANG_TEACHER, what the student records.",
        metavar="MODEL",
        autocompletion=complete.models,
    ),
]
Keep = Annotated[
    Numbers | None,
    _models(
        parser=kept,
        metavar="0,2,4,...",
        help="Teacher layers that the student copied, where it does not record them.",
    ),
]
Download = Annotated[
    bool,
    _models("--download", help="Bring models of the Hub whole into the cache, not only the bytes that are needed."),
]

# Output

_output = partial(typer.Option, rich_help_panel=panels.OUTPUT)

OutputFolder = Annotated[Path, _output("--output", "-o", parser=home, help="Folder to write.", metavar="FOLDER")]
DType = Annotated[DTypeName, _output(help="Floating-point type of the output.")]
MaxShardSize = Annotated[str, _output(help="Largest size of one weights file.", metavar="SIZE")]
Private = Annotated[
    bool, typer.Option("--private", help="Make the repository private if it is new.", rich_help_panel=panels.HUB)
]
Overwrite = Annotated[bool, _output("--overwrite", help="Replace an earlier output of this command.")]
DryRun = Annotated[bool, _output("--dry-run", help="Print what would be written, and write nothing.")]
Json = Annotated[bool, _output("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, _output("--quiet", "-q", help="No progress and no hints.")]
