"""``boomerang families``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from boomerang_cli.cli import options, panels
from boomerang_cli.cli.output import Output
from boomerang_cli.engine.checkpoint.family_list import FamilyList, list_families

EPILOG = panels.epilog(
    "Where it runs", "boomerang families qwen", "boomerang families --refused", "boomerang families --json"
)


def families(
    containing: Annotated[
        str, typer.Argument(help="Only types with this in their names, such as qwen.", metavar="[TEXT]")
    ] = "",
    refused: Annotated[bool, typer.Option("--refused", help="List those that do not work, and why.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List the model types that work, and what is special.

    A type is what config.json calls model_type. One that is in no table is derived from its class in transformers on
    the spot, and refused with the reason if its layers cannot be moved.
    """
    out = Output(as_json=as_json, quiet=quiet)
    found = list_families(containing)
    reasons = found.refused if refused or containing else {}
    works = {} if refused else {entry.model_type: "; ".join(entry.special) for entry in found.families}
    if works or reasons or as_json:
        out.result(found, _lines(works, reasons))
    if note := _note(found, containing, refused):
        out.note(note)


def _lines(works: Mapping[str, str], reasons: Mapping[str, str]) -> str:
    """Return a line for each type, without a heading: to be searched, and counted."""
    rows = {**works, **{name: f"refused: {reason}" for name, reason in reasons.items()}}
    width = max(map(len, rows), default=0)
    return "\n".join(f"{name:{width}}  {rows[name]}".rstrip() for name in sorted(rows))


def _note(found: FamilyList, containing: str, refused: bool) -> str | None:
    """Say what the list leaves out."""
    if not found.families and not found.refused:
        near = f" (nearest: {', '.join(found.nearest)})" if found.nearest else ""
        return (
            f"no type in the table has {containing!r} in its name{near}: a model of such a type is derived on the "
            "spot, if the installed transformers has its class"
        )
    if refused and not found.refused:
        return f"none of {len(found.families)} types is refused"
    if not refused and not containing:
        return (
            f"{len(found.families)} types; `boomerang families --refused` lists {len(found.refused)} that do not work"
        )
    return None
