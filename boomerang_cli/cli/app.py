"""The Typer app: puts the commands together, and catches the engine's errors once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from boomerang_cli.cli import interrupts, output
from boomerang_cli.cli.demo import demo
from boomerang_cli.cli.distill import distill
from boomerang_cli.cli.init_student import init_student
from boomerang_cli.cli.patch import patch
from boomerang_cli.cli.push import push
from boomerang_cli.cli.signals import Terminated, ending_signals_raise
from boomerang_cli.cli.sweep import sweep
from boomerang_cli.engine.errors import BoomerangError
from boomerang_cli.version import __version__


class _Commands(TyperGroup):
    """Turns errors into one line and an exit code, for the shell and for tests alike."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)  # in the order of a project, not of the alphabet

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _errors_in_one_line():  # help and version are printed here
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _errors_in_one_line(), ending_signals_raise():
            import boomerang_cli.engine.output.system_calls  # noqa: F401  (refuses a system that no command can run on)

            return super().invoke(ctx)


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    if os.environ.get("BOOMERANG_DEBUG") == "1":
        yield
        return
    try:
        yield
    except KeyboardInterrupt as interrupt:
        output.error(str(interrupt) or "interrupted")
        raise typer.Exit(interrupts.EXIT_CODE) from None
    except Terminated as signal:
        output.error(str(signal))
        raise typer.Exit(signal.code) from None
    except BoomerangError as error:
        output.error(str(error))
        raise typer.Exit(1) from None
    except BrokenPipeError:
        raise typer.Exit(1) from None
    except Exception as error:
        if isinstance(error, (typer.Exit, typer.Abort)) or hasattr(error, "format_message"):
            raise  # Typer's own: the end of a command, or wrong usage
        output.error(f"{type(error).__name__}: {error} (unexpected: BOOMERANG_DEBUG=1 shows where it comes from)")
        raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Commands,
    name="boomerang",
    help="Every model size between a distilled student and its teacher (boomerang distillation).",
    epilog="In an empty folder: boomerang init-student TEACHER; boomerang distill; boomerang patch --layers 2",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"boomerang {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


app.command()(init_student)
app.command()(distill)
app.command()(patch)
app.command()(sweep)
app.command()(push)
app.command()(demo)
