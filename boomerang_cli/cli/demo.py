"""``boomerang demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from boomerang_cli.cli import options
from boomerang_cli.cli.output import Output


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", parser=options.home, help="Project folder to make.", metavar="FOLDER")
    ] = Path("boomerang-demo"),
    steps: Annotated[
        int | None, typer.Option(help="Steps of distillation. [default: under two minutes' worth]")
    ] = None,
    samples: Annotated[bool, typer.Option("--samples", help="Show what each size writes, too.")] = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """See it work, on a small teacher that ships inside.

    The whole pipeline in under three minutes, with no network and no GPU. Each step prints the command that does the
    same. What is left is a project folder to go on with.

    Example: boomerang demo
    """
    from boomerang_cli.cli.demo_screen import show_end, show_samples
    from boomerang_cli.engine.demo import STEPS, demo

    out = Output(as_json=as_json, quiet=quiet)
    with out.stages() as on_progress:
        result = demo(
            output=output,
            steps=STEPS if steps is None else steps,
            samples=samples,
            overwrite=overwrite,
            on_command=lambda command: out.note(f"$ {command}"),
            on_note=out.note,
            on_progress=on_progress,
        )
    show_samples(out, result.sweep)
    show_end(out, result)
