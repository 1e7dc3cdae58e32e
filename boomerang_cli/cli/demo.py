"""``boomerang demo``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from boomerang_cli.cli import options, panels
from boomerang_cli.cli.output import Output
from boomerang_cli.cli.sweep_text import sweep_text

EPILOG = panels.epilog(
    "Try it",
    "boomerang demo",
    "boomerang demo -o /tmp/boomerang-demo",
    "boomerang demo --json",
)


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", parser=options.home, help="Project folder to make.", metavar="FOLDER")
    ] = Path("boomerang-demo"),
    steps: Annotated[
        int | None, typer.Option(help="Steps of distillation. [default: under two minutes' worth]")
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """See it work, on a small teacher that ships inside.

    The whole pipeline in under three minutes, with no network and no GPU. Each step prints the command that does the
    same. What is left is a project folder to go on with.
    """
    from boomerang_cli.engine.demo import STEPS, demo

    out = Output(as_json=as_json, quiet=quiet)
    with out.stages() as on_progress:
        result = demo(
            output=output,
            steps=STEPS if steps is None else steps,
            overwrite=overwrite,
            on_command=lambda command: out.note(f"$ {command}"),
            on_progress=on_progress,
        )
    for sample in result.samples:
        out.note(f"\n--- {sample.model}, {sample.layers} layers, writes:\n{sample.text}")
    out.note("")
    out.result(result.sweep, sweep_text(result.sweep.rows, result.sweep.recommended, curve=True)[0])
    out.note(f"\nThe same as a picture: {result.path / 'sweep' / 'curve.png'}")
    out.hint(f"cd {shlex.quote(str(result.path))} && boomerang patch --layers 3", "make another size")
