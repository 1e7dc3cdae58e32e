"""Options that several commands share: one wording, one type."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


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

Student = Annotated[
    str | None,
    typer.Option(
        parser=text,
        help="Folder or owner/name[@revision] of the student. Without it: BOOMERANG_STUDENT, this folder, ./student.",
        metavar="MODEL",
    ),
]
Teacher = Annotated[
    str | None,
    typer.Option(
        parser=text,
        help="Folder or owner/name[@revision] of the teacher. Without it: BOOMERANG_TEACHER, what the student records.",
        metavar="MODEL",
    ),
]
Keep = Annotated[
    Numbers | None,
    typer.Option(
        parser=numbers,
        metavar="0,2,4,...",
        help="Teacher layers that the student copied, where it has no student_config.json.",
    ),
]
OutputFolder = Annotated[Path, typer.Option("--output", "-o", parser=home, help="Folder to write.", metavar="FOLDER")]
DType = Annotated[DTypeName, typer.Option(help="Floating-point type of the output.")]
MaxShardSize = Annotated[str, typer.Option(help="Largest size of one weights file.", metavar="SIZE")]
Download = Annotated[
    bool,
    typer.Option(
        "--download", help="Bring models of the Hub whole into the cache, not only the bytes that are needed."
    ),
]
Private = Annotated[bool, typer.Option("--private", help="Make the repository private if it is new.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output of this command.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be written, and write nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no hints.")]
