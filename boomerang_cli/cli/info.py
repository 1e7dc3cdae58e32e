"""``boomerang info``."""

from __future__ import annotations

from typing import Annotated

import typer

from boomerang_cli.cli import complete, options, panels
from boomerang_cli.cli.info_lines import info_text
from boomerang_cli.cli.info_next import next_steps
from boomerang_cli.cli.output import Output, as_plain

EPILOG = panels.epilog(
    "Commands",
    "boomerang info student",
    "boomerang info Harvard-DCML/boomerang-pythia-1.6B",
    "boomerang info sweep --json",
)


def info(
    model: Annotated[
        str,
        typer.Argument(
            parser=options.text,
            help="Folder of a model, a sweep or a training, or owner/name[@revision] on the Hub.",
            metavar="MODEL",
            autocompletion=complete.models,
        ),
    ],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Tell what a model or a folder is, and what to do next.

    A folder may be a sweep's or a training's, too. Of a model: its family, layers and where they come from, the
    sizes that can be made with it, recipe, licence. Only headers are read, on the Hub too.
    """
    from boomerang_cli.engine.info import info

    out = Output(as_json=as_json, quiet=quiet)
    result = info(model)
    steps = next_steps(result, model)
    out.result({**as_plain(result), "next": [step.command for step in steps]}, info_text(result))
    for step in steps:
        out.hint(step.command, step.why)
